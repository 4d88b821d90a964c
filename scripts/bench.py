"""The README's speed figures, as ratios within one run: python scripts/bench.py [FIGURE ...]

startup    how long `--help`, `--cfg job` and the first training step take, beside importing torch and Lightning
loop       normlab's training loop beside a loop written by hand, on the same model and batches
record     what a run's identity, claim and records cost
decide     how soon a multirun of 1,000 finished runs finds that nothing is left
lstm       the fused LSTM beside torch.nn.LSTM; `python scripts/bench_lstm.py --help` has options
launchers  runs a minute: launcher=joblib, launcher=basic, one process a run

Pairs are interleaved, so that a machine whose speed drifts slows both alike; medians are quoted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_runs import decide, launchers, record

ROOT = Path(__file__).parents[1]
FIGURES = ["startup", "loop", "lstm", "record", "decide", "launchers"]
MODELS = ("cnn", "lstm", "transformer")
IMPORTS = [sys.executable, "-c", "import torch, pytorch_lightning"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("figures", nargs="*", choices=[[], *FIGURES], help="default: all")
    parser.add_argument("--pairs", type=int, default=7, help="repeats of each pair")
    parser.add_argument("--seconds", type=float, default=4.0, help="loop: length of one side of a pair")
    chosen = parser.parse_args()
    figures = chosen.figures or FIGURES
    if "startup" in figures:
        startup(chosen.pairs)
    if "loop" in figures:
        for model in MODELS:
            loop(model, chosen.pairs, chosen.seconds)
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
    (record,) = Path(output).glob("runs/*/metrics.jsonl")
    first = json.loads(record.read_text(encoding="utf-8").splitlines()[0])
    return float(first["time"]) - started


def loop(model: str, pairs: int, length: float) -> None:
    """Ratio of the default run's training loop to a plain PyTorch loop with the same arithmetic."""
    import torch

    from normlab.checks import checked

    config = checked(composed(f"model={model}", "logger=none"))
    torch.use_deterministic_algorithms(config.trainer.deterministic)
    plain, ours = sides(config)
    plain(3), ours(3)
    steps = max(5, round(length / plain(5) * 5))
    ratios = []
    for _ in range(pairs):
        by_hand = plain(steps)
        ratios.append(ours(steps) / by_hand)
    print(
        f"{model:12} normlab / by hand: median {statistics.median(ratios):.3f}   "
        f"(min {min(ratios):.3f}, max {max(ratios):.3f}, n = {pairs} pairs of {steps} steps)"
    )


def composed(*overrides: str) -> Any:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def sides(config: Any) -> tuple[Callable[[int], float], Callable[[int], float]]:
    """Two functions that train a fresh model for a number of steps and tell the seconds that took."""
    import torch
    from rich.console import Console
    from torch.nn import functional as F
    from torch.nn.utils import clip_grad_norm_

    from normlab.data.loader import loader
    from normlab.measures.callbacks import TrainingLog
    from normlab.measures.loggers import build_loggers
    from normlab.measures.place import Place
    from normlab.measures.progress import Bar
    from normlab.measures.session import build_task, build_trainer, prepare
    from normlab.models.build import build_model
    from normlab.probes.precise_statistics import PreciseStatistics
    from normlab.tasks.optimiser import build_optimiser, build_schedule

    data = prepare(config)

    def plain(steps: int) -> float:
        torch.manual_seed(0)
        model = build_model(config.norm, config.model, data.sizes)
        optimiser = build_optimiser(model, config.optim)
        schedule = build_schedule(optimiser, config.optim, steps)
        batches = loader(data.splits["train"], config.task.batch_size, seed=0, bucket=config.task.bucket)
        model.train()
        done, started = 0, time.perf_counter()
        while done < steps:
            for batch in batches:
                logits = model(batch.inputs, batch.mask)
                if batch.targets.ndim == 1 or batch.mask is None:
                    loss = F.cross_entropy(logits.flatten(0, -2), batch.targets.flatten())
                else:
                    loss = F.cross_entropy(logits[batch.mask], batch.targets[batch.mask])
                optimiser.zero_grad()
                loss.backward()
                if config.optim.clip is not None:
                    clip_grad_norm_(model.parameters(), config.optim.clip)
                optimiser.step()
                schedule.step()
                done += 1
                if done == steps:
                    break
        return time.perf_counter() - started

    def ours(steps: int) -> float:
        torch.manual_seed(0)
        task = build_task(config, build_model(config.norm, config.model, data.sizes), data)
        short = config.model_copy(
            update={"trainer": config.trainer.model_copy(update={"steps": steps, "epochs": 10**6, "validations": 1})}
        )
        log = TrainingLog(config.trainer.log_every)
        with tempfile.TemporaryDirectory() as folder:
            place = Place(Path(folder), "bench", attempt=1)
            trainer = build_trainer(
                short, place, build_loggers(short, place), [log, PreciseStatistics(), Bar(Console())]
            )
            trainer.limit_val_batches = 0  # only the loop is compared
            trainer.fit(task, loader(data.splits["train"], config.task.batch_size, seed=0, bucket=config.task.bucket))
        return log.seconds

    return plain, ours


if __name__ == "__main__":
    main()
