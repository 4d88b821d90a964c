"""Speed of training and evaluation, as `scripts/bench/bench.py` shows it."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODELS = ("cnn", "lstm", "transformer")
EVALUATED = ("cnn", "lstm", "gru", "transformer", "lstm task=fashion_rows", "transformer task=author")


def loop(pairs: int, length: float) -> None:
    """Ratio of the default runs' training loop to a plain PyTorch loop with the same arithmetic."""
    for model in MODELS:
        config, data = prepared(f"model={model}", "logger=none")
        ratios, steps = [], steps_of(config, data, length)
        for _ in range(pairs):
            by_hand = plain(config, data, steps)
            ratios.append(ours(config, data, steps) / by_hand)
        print(f"{model:12} normlab / by hand: {spread(ratios)} of {steps} steps")


def evaluation(pairs: int) -> None:
    """Ratio of evaluation in parts, as runs do it on a CPU, to evaluation of whole batches; one thread, two batches."""
    import torch

    from normlab.data.loader import loader
    from normlab.models.build import build_model
    from normlab.models.parts import in_parts

    for model in EVALUATED:
        config, data = prepared(*f"model={model}".split(), "trainer.threads=1")
        network = build_model(config.norm, config.model, data.sizes).eval()
        batches = list(islice(loader(data.split("validation"), config.task.eval_batch_size), 2))
        ratios = []
        with torch.no_grad():
            for number in range(pairs + 1):
                whole = seconds_of(network, batches)
                parts = seconds_of(partial(in_parts, network), batches)
                ratios += [parts / whole] if number else []  # the first warms both
        print(f"{model:24} evaluated in parts / whole: {spread(ratios)}")


def seconds_of(call: Callable[[Any, Any], Any], batches: Sequence[Any]) -> float:
    """In which all batches are evaluated."""
    started = time.perf_counter()
    for batch in batches:
        call(batch.inputs, batch.mask)
    return time.perf_counter() - started


def loggers(pairs: int, length: float) -> None:
    """What W&B, offline, costs the default runs compared with CSV: per step, and at the start and end of a run."""
    os.environ["WANDB_MODE"] = "offline"
    for model in MODELS:
        sides = {logger: prepared(f"model={model}", f"logger={logger}") for logger in ("csv", "wandb")}
        steps = steps_of(*sides["csv"], length)
        ratios = []
        for _ in range(pairs):
            csv = ours(*sides["csv"], steps)
            ratios.append(ours(*sides["wandb"], steps) / csv)
        more = [seconds_of_short_run(model, "wandb") - seconds_of_short_run(model, "csv") for _ in range(pairs)]
        print(f"{model:12} a step with wandb / with csv: {spread(ratios)} of {steps} steps")
        print(f"{'':12} to begin and end: {statistics.median(more):+.2f} s   ({min(more):+.2f} to {max(more):+.2f})")


def spread(ratios: list[float]) -> str:
    median, least, most = statistics.median(ratios), min(ratios), max(ratios)
    return f"median {median:.3f}   (min {least:.3f}, max {most:.3f}, n = {len(ratios)} pairs)"


def seconds_of_short_run(model: str, logger: str) -> float:
    """Of a whole command that takes twenty steps and validates once."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["trainer.steps=20", "trainer.validations=1", "trainer.progress=false", f"output={folder}"]
        started = time.perf_counter()
        command = [sys.executable, "train.py", f"model={model}", f"logger={logger}", *options]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - started


def prepared(*overrides: str) -> tuple[Any, Any]:
    """Config and data of a run."""
    import torch
    from hydra import compose, initialize_config_dir

    from normlab.checks.config import checked
    from normlab.data.load import load
    from normlab.session.devices import set_up

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = checked(compose("train", overrides=list(overrides)))
    torch.use_deterministic_algorithms(config.trainer.deterministic)
    set_up(config)
    return config, load(config.task, Path(config.cache))


def steps_of(config: Any, data: Any, length: float) -> int:
    """How many take about `length` seconds; both loops are warm after that."""
    plain(config, data, 3), ours(config, data, 3)
    return max(5, round(length / plain(config, data, 5) * 5))


def plain(config: Any, data: Any, steps: int) -> float:
    """Seconds in which a loop written by hand trains a fresh model for a number of steps."""
    import torch
    from torch.nn import functional as F
    from torch.nn.utils import clip_grad_norm_

    from normlab.data.loader import loader
    from normlab.models.build import build_model
    from normlab.tasks.optimiser import build_optimiser, build_schedule

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


def ours(config: Any, data: Any, steps: int) -> float:
    """Seconds in which normlab's training loop does the same."""
    import torch
    from rich.console import Console

    from normlab.data.loader import loader
    from normlab.folder.place import Place
    from normlab.mirror.progress import Bar
    from normlab.models.build import build_model
    from normlab.probes.precise_statistics import PreciseStatistics
    from normlab.session.loggers import Loggers
    from normlab.session.task import build_task
    from normlab.session.trainer import build_trainer
    from normlab.session.training_log import TrainingLog

    torch.manual_seed(0)
    task = build_task(config, build_model(config.norm, config.model, data.sizes), data)
    short = config.trainer.model_copy(update={"steps": steps, "epochs": 10**6, "validations": 1})
    config = config.model_copy(update={"trainer": short})
    log = TrainingLog(config.trainer.log_every)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), "bench", attempt=1)
        loggers = Loggers(config, place)
        trainer = build_trainer(
            config,
            place.folder,
            loggers.all,
            [log, PreciseStatistics(), Bar(Console(), {task.metric: f"validation/{task.metric}"})],
        )
        trainer.limit_val_batches = 0  # only the loop is compared
        trainer.fit(task, loader(data.splits["train"], config.task.batch_size, seed=0, bucket=config.task.bucket))
        loggers.close({"steps": steps})
    return log.seconds
