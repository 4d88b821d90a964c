"""What ending lost tuning runs early would choose, against tuning every point to the end.

Run by python scripts/simulate/early_ends.py, from the curves in tuning_curves.csv beside it (a second). With `--train
FOLDER` it first trains the sample again (15 minutes of one free core) and replaces them. Every run has eight
validations, evenly spaced, so that the rule can be tried at each eighth of the steps.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from normlab.config.checks import checked
from normlab.config.shipped import CONF
from normlab.findings.finding import read_finding
from normlab.folder.run_folder import RunFolder
from normlab.runs.run import do

CURVES = Path(__file__).with_name("tuning_curves.csv")
QUICK = ["logger=none", "trainer.threads=1", "trainer.progress=false"]
SEED = 1000
# finding → options that make its cells affordable; eight validations a run
SAMPLE = {
    "sorted_batches": ["trainer.epochs=1000", "trainer.steps=2000", "trainer.validations=8"],
    "convergence": ["trainer.epochs=1000", "trainer.steps=480", "trainer.validations=8"],
    "lstm_batch_size": ["trainer.epochs=4", "trainer.validations=2"],
    "trainable_depth": ["trainer.epochs=1", "trainer.validations=8"],
    "warmup": ["model.layers=2", "model.width=32", "task.max_length=32", "trainer.steps=160", "trainer.validations=8"],
    "transformer_padding": ["trainer.epochs=1", "trainer.validations=8"],
    "lstm_layer_vs_batch": ["trainer.epochs=4", "trainer.validations=2"],
    "small_batch": ["trainer.epochs=1000", "trainer.steps=480", "trainer.validations=8"],
}


def train(output: Path) -> None:
    """Every arm of the sample at every point, and what its validations gave."""
    with CURVES.open("w", encoding="utf-8", newline="") as file, initialize_config_dir(str(CONF), version_base="1.3"):
        table = csv.writer(file)
        table.writerow(["finding", "arm", "point", "seed", "step", "steps", "metric", "value"])
        for name, options in SAMPLE.items():
            finding = read_finding(CONF / "finding" / f"{name}.yaml")
            assert finding.tune is not None
            metric = f"validation/{finding.tune.by.partition('/')[2]}"
            for cell in dict.fromkeys(finding.tuned_at(cell) for cell in finding.cells):
                for point in finding.tune.points:
                    tuned = f"{finding.tune.option}={point:g}"
                    choices = [*QUICK, *finding.choices(cell, "quick"), *options, tuned, f"seed={SEED}"]
                    last = {choice.partition("=")[0]: choice for choice in choices}
                    asked = [*last.values(), f"output={output}"]
                    config = checked(compose("train", overrides=asked), asked)
                    done = do(config)
                    rows = [row for row in RunFolder(done.folder).read_rows().rows if metric in row]
                    for row in rows:
                        known = [row["step"], done.summary["steps"], metric, row[metric]]
                        table.writerow([name, cell, f"{point:g}", SEED, *known])
                    file.flush()
                    print(name, cell, point, f"{done.summary['seconds']:.1f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]).absolute())
