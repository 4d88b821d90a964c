"""What ending lost tuning runs early would choose, against tuning every point to the end.

Run by python scripts/simulate/early_ends.py, from the curves in tuning_curves.csv beside it (a second). With `--train
FOLDER` it first trains the sample again (15 minutes of one free core) and replaces them. Every run has eight
validations or a multiple, evenly spaced, so that the rule can be tried at each eighth of the steps.
"""

from __future__ import annotations

import csv
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from page import table, write

from normlab.checks.config import checked
from normlab.config.measures.training import least_steps
from normlab.config.shipped import CONF
from normlab.findings.finding import Finding
from normlab.findings.read import read_finding
from normlab.findings.tuning import going_on
from normlab.folder.run_folder import RunFolder
from normlab.runs.run import do
from normlab.runs.validated import result_of, validations_until

CURVES = Path(__file__).with_name("tuning_curves.csv")
OPTIONS = ["logger=none", "trainer.threads=1", "trainer.progress=false"]
SEED = 1000
# finding → options that make its cells affordable
SAMPLE = {
    "sorted_batches": ["trainer.epochs=1000", "trainer.steps=2000", "trainer.validations=8"],
    "convergence": ["trainer.epochs=1000", "trainer.steps=480", "trainer.validations=8"],
    "lstm_batch_size": ["trainer.epochs=4", "trainer.validations=2"],
    "trainable_depth": ["trainer.epochs=1", "trainer.validations=8"],
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
                    choices = [*OPTIONS, *finding.choices(cell, "quick"), *options, tuned, f"seed={SEED}"]
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


Curves = dict[float, list[dict[str, Any]]]  # point → its validations, as a run logs them
SHARES, KEEP = (0.125, 0.25, 0.5), 0.4


def recorded() -> Iterator[tuple[Finding, str, Curves]]:
    """Of each arm of the sample all validations, if every point has been trained."""
    cells: dict[tuple[str, str], Curves] = defaultdict(lambda: defaultdict(list))
    with CURVES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            value = float(row["value"]) if row["value"] else None
            known = {"step": int(row["step"]), "steps": int(row["steps"]), row["metric"]: value}
            cells[row["finding"], row["arm"]][float(row["point"])].append(known)
    for (name, arm), curves in cells.items():
        finding = read_finding(CONF / "finding" / f"{name}.yaml")
        if finding.tune is not None and set(curves) == set(finding.tune.points):
            yield finding, arm, curves


def reached(finding: Finding, curves: Curves, share: float) -> dict[float, float | None]:
    """point → what its run has reached at that share of the steps of a whole run, by the code that studies use."""
    assert finding.tune is not None
    steps = max(rows[-1]["steps"] for rows in curves.values())
    worst = -math.inf if finding.tune.best == "max" else math.inf
    found: dict[float, float | None] = {}
    for point, rows in curves.items():
        value = result_of(validations_until(rows, least_steps(share, steps)), finding.tune.by)
        found[point] = worst if value is None else value  # it has diverged
    return found


def main() -> None:
    rows, chosen_alike = [], dict.fromkeys(SHARES, 0)
    for finding, arm, curves in recorded():
        assert finding.tune is not None
        ends = reached(finding, curves, 1.0)
        best = going_on(ends, finding.tune.best, 1 / len(ends))[0]
        scale = 1.0 if finding.tune.by.startswith("area") else 100.0
        cells = []
        for share in SHARES:
            kept = going_on(reached(finding, curves, share), finding.tune.best, KEEP)
            chosen = going_on({point: ends[point] for point in kept}, finding.tune.best, 1 / len(kept))[0]
            chosen_alike[share] += chosen == best
            loss = scale * abs((ends[best] or 0.0) - (ends[chosen] or 0.0))
            cells.append("the same" if chosen == best else f"{chosen:g}, loss {loss:.2g}")
        margin = scale * (finding.margin or 0.0) / 10
        rows.append([finding.name, arm, f"{best:g}", *cells, f"{margin:.2g}"])
    alike = ", ".join(f"{count} of {len(rows)} at {100 * share:g} %" for share, count in chosen_alike.items())
    head = ["finding", "arm", "in full", *(f"paused at {100 * share:g} %" for share in SHARES), "margin / 10"]
    write(
        "early_ends",
        f"""
`python scripts/simulate/early_ends.py`: {len(rows)} arms of {len({row[0] for row in rows})} findings, five points and
one seed each, trained to their end in shorter runs than those of `scale=full` (see the script). The rule keeps two of
five points. The same choice as in full: {alike}. Losses in points of validation accuracy, or nats of the mean loss.

{table(head, rows)}
""",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        train(Path(sys.argv[2]).absolute())
    main()
