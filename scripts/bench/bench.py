"""The README's speed figures, as ratios within one run: python scripts/bench/bench.py [FIGURE ...]

startup    how long `--help`, `--cfg job` and the first training step take, compared with importing torch and Lightning
loop       normlab's training loop, compared with a hand-written one on the same model and batches
evaluation how long evaluation takes in parts that fit the CPU's cache, compared with whole batches
loggers    what logger=wandb, offline, costs compared with logger=csv
record     what a run's identity, claim and records cost
decide     how soon a multirun of 1,000 finished runs finds that nothing is left
lstm       the fused LSTM, compared with torch.nn.LSTM; `python scripts/bench/bench_lstm.py --help` has options
launchers  runs a minute: launcher=joblib, launcher=basic, one process a run

Pairs are interleaved, so that a machine whose speed drifts slows both alike; medians are quoted.
"""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_loop import evaluation, loggers, loop
from bench_runs import decide, launchers, record
from normlab.folder.results import run_folders

ROOT = Path(__file__).parents[2]
FIGURES = ["startup", "loop", "evaluation", "loggers", "lstm", "record", "decide", "launchers"]
IMPORTS = [sys.executable, "-c", "import torch, pytorch_lightning"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", choices=[[], *FIGURES], help="default: all")
    parser.add_argument("--pairs", type=int, default=7, help="repeats of each pair")
    parser.add_argument("--seconds", type=float, default=4.0, help="loop, loggers: length of one side of a pair")
    chosen = parser.parse_args()
    figures = chosen.figures or FIGURES
    if "startup" in figures:
        startup(chosen.pairs)
    if "loop" in figures:
        loop(chosen.pairs, chosen.seconds)
    if "evaluation" in figures:
        evaluation(chosen.pairs)
    if "loggers" in figures:
        loggers(chosen.pairs, chosen.seconds)
    if "lstm" in figures:
        subprocess.run([sys.executable, Path(__file__).with_name("bench_lstm.py")], check=True)
    for name, figure in (("record", record), ("decide", decide), ("launchers", launchers)):
        if name in figures:
            figure()


def startup(pairs: int) -> None:
    """Seconds until the answer, and until the first step of a run with a warm cache."""
    train = [sys.executable, "train.py"]
    with tempfile.TemporaryDirectory() as folder:
        first_step(train, folder, "csv", 0)  # warms the cache of materialised data and Python's own
        rows: dict[str, list[float]] = {name: [] for name in ("imports", "--help", "--cfg job", "csv", "wandb")}
        for number in range(1, pairs + 1):
            rows["imports"].append(seconds(IMPORTS))
            rows["--help"].append(seconds([*train, "--help"]))
            rows["--cfg job"].append(seconds([*train, "--cfg", "job"]))
            rows["csv"].append(first_step(train, folder, "csv", number))
            rows["wandb"].append(first_step(train, folder, "wandb", number))
    names = {
        "imports": "import torch, pytorch_lightning",
        "--help": "train.py --help",
        "--cfg job": "train.py --cfg job",
        "csv": "first training step, logger=csv",
        "wandb": "first training step, logger=wandb (offline)",
    }
    for name, label in names.items():
        ratio = statistics.median(a / b for a, b in zip(rows[name], rows["imports"], strict=True))
        print(f"{label:45} {statistics.median(rows[name]):6.2f} s   {ratio:5.2f} x imports   (n = {pairs})")


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def first_step(train: list[str], folder: str, logger: str, number: int) -> float:
    """Seconds from the start of the command to the end of its first optimiser step."""
    output = f"{folder}/{logger}-{number}"
    options = [
        f"logger={logger}",
        "trainer.steps=1",
        "trainer.batches=1",
        "trainer.log_every=1",
        "trainer.progress=false",
    ]
    started = time.time()
    subprocess.run([*train, *options, f"output={output}"], cwd=ROOT, check=True, capture_output=True)
    (run,) = run_folders(Path(output))
    first = run.read_rows().rows[0]
    return float(first["time"]) - started


if __name__ == "__main__":
    main()
