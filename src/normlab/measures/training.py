"""Train, validate, keep the best and the last checkpoint; the test split only if asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import Logger
from rich.console import Console

from normlab.config.measure_options import Training
from normlab.config.schema import RunConfig
from normlab.config.seeds import derive
from normlab.data.load import Data
from normlab.data.loader import loader
from normlab.data.splits import Split
from normlab.folder.place import Place
from normlab.mirror.loggers import RunRecord, build_loggers, finish
from normlab.mirror.predictions import class_names, sample_predictions
from normlab.mirror.wandb_run import WandbRun
from normlab.models.build import build_model
from normlab.models.checkpoint import read_checkpoint
from normlab.models.lstm import LSTM
from normlab.probes.inside import Inside
from normlab.probes.mode_gap import mode_gap
from normlab.probes.precise_statistics import PreciseStatistics
from normlab.session.callbacks import Curve, Heartbeat, TrainingLog
from normlab.session.progress import Bar
from normlab.session.resumption import Noise, Resumption
from normlab.session.session import build_task, build_trainer, prepare
from normlab.stopping.request import Stopped, stop_request
from normlab.tasks.task import Task

GAP_BATCHES = 32  # at most, of the training split


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train one network, from the beginning or from where an interrupted run can go on.

    Returns:
        A flat summary. `validation/…` are the metrics of the best checkpoint by the task's metric, with its step,
        examples and training seconds as `best_…`; `last/…` those of the last validation. If asked for, `test/…` and
        `last_test/…` are those of the two checkpoints on the test split, read once for both. `area/…` is what the
        validation curve is on average, over steps. With `measure.inside`, `inside/…` is what `Inside` saw last, and
        `gap/…` is the `mode_gap` of the last weights. A run that diverges has `diverged: true`, the best metrics before
        it did, if any, and null areas.
    """
    summary, loggers = train(config, place)
    finish(loggers, summary)
    return summary


def train(config: RunConfig, place: Place) -> tuple[dict[str, Any], list[Logger]]:
    """What `measure` does, for a measure that goes on from there: its summary, and the loggers, still open."""
    data = prepare(config)
    torch.manual_seed(derive(config.seed, "init"))
    task = build_task(config, build_model(config.norm, config.model, data.sizes), data)
    log, curve = TrainingLog(config.trainer.log_every), Curve()
    loggers = build_loggers(config, place)
    callbacks: list[pl.Callback] = [log, PreciseStatistics(), curve, *_keepers(config, task, place)]
    assert isinstance(loggers[0], RunRecord)
    callbacks += [Noise(config.seed), Heartbeat(place.folder), Resumption(place, loggers[0], config.trainer)]
    inside = _inside(config, task, data)
    callbacks += [inside] if inside else []
    if config.trainer.progress:
        callbacks.append(Bar(Console()))
    trainer = build_trainer(config, place, loggers, callbacks)
    started = time.perf_counter()
    batches, validation = (_loader(config, data, split, trainer) for split in ("train", "validation"))
    if (steps := config.trainer.steps) is not None and steps < len(batches):
        # the epoch ends with the run, so that its validations spread over what is trained
        trainer.limit_train_batches = min(steps, config.trainer.batches or steps)
    with _ended_when_stopped(trainer):
        trainer.fit(task, batches, validation, ckpt_path=place.resume_checkpoint, weights_only=True)
    stop_request().hold("finishing the run, as its last step is done")
    if not task.diverged:
        if curve.last_step != trainer.global_step:
            _validate_at_end(trainer, task, validation, curve, place)
        trainer.save_checkpoint(place.checkpoints / "last.ckpt")
    summary: dict[str, Any] = {
        "diverged": task.diverged,
        "steps": trainer.global_step,
        "examples": log.examples,
        "parameters": sum(p.numel() for p in task.model.parameters()),
        "train_seconds": log.seconds,
        "fit_seconds": time.perf_counter() - started,
        **_results(curve, task),
    }
    if isinstance(task.model, LSTM):
        summary["kernel"] = task.model.kernel
    if config.norm_name == "batch":
        summary["normalisation_batch_size"] = _nbs(config)
    if inside is not None:
        summary |= _finite(inside.found)
        if not task.diverged:
            few = islice(inside.batches, min(config.trainer.batches or GAP_BATCHES, GAP_BATCHES))
            summary |= _finite(mode_gap(trainer, task, few))
    if config.test:
        summary |= _finite(_tested(trainer, task, _loader(config, data, "test", trainer), curve, place))
    _show(trainer, task, data, curve, place)
    return summary, trainer.loggers


def _show(trainer: pl.Trainer, task: Task, data: Data, curve: Curve, place: Place) -> None:
    """What the best weights predict, as tables, where a logger shows some."""
    loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbRun)]
    if not loggers or curve.best(task) is None or not trainer.is_global_zero:
        return
    task.load_state_dict(read_checkpoint(place.checkpoints / "best.ckpt")["state_dict"])
    samples = sample_predictions(task.model, data)
    for logger in loggers:
        logger.show_samples(samples)
        if curve.confusion is not None:
            logger.show_confusion(curve.confusion.tolist(), class_names(data))


def _inside(config: RunConfig, task: Task, data: Data) -> Inside | None:
    """What looks into the network, if asked for; its batches are composed as in training, from another seed."""
    if not (isinstance(config.measure, Training) and config.measure.inside):
        return None
    seed = derive(config.seed, "inside")
    return Inside(task.model, _batches(config, data.split("train"), seed), seed)


def _tested(trainer: pl.Trainer, task: Task, batches: Any, curve: Curve, place: Place) -> dict[str, float]:
    """Test metrics of the last weights (unless they have diverged) and of the best ones, if there are any."""
    best, found = curve.best(task), {}
    if not task.diverged:
        both = best is curve.rows[-1]
        found = _test(trainer, task, batches, "test" if both else "last_test")
        if both:
            return found | {name.replace("test/", "last_test/"): value for name, value in found.items()}
    if best is not None:
        task.load_state_dict(read_checkpoint(place.checkpoints / "best.ckpt")["state_dict"])
        found |= _test(trainer, task, batches, "test")
    return found


def _test(trainer: pl.Trainer, task: Task, batches: Any, name: str) -> dict[str, float]:
    task.tested_as = name
    found = trainer.test(task, batches, verbose=False)[0]
    return {key: value for key, value in found.items() if "/" in key}


@contextmanager
def _ended_when_stopped(trainer: pl.Trainer) -> Iterator[None]:
    """The loggers of a stopped run are closed, as the process may end at once."""
    try:
        yield
    except Stopped:
        finish(trainer.loggers, {})
        raise


def _validate_at_end(trainer: pl.Trainer, task: Task, validation: Any, curve: Curve, place: Place) -> None:
    """Validate and keep a run that `trainer.steps` or `trainer.minutes` ended between two validations."""
    trainer.validate(task, validation, verbose=False)
    if curve.best(task) is curve.rows[-1]:
        trainer.save_checkpoint(place.checkpoints / "best.ckpt")


def _keepers(config: RunConfig, task: Task, place: Place) -> list[pl.Callback]:
    monitor = f"validation/{task.metric}"
    keep = ModelCheckpoint(
        place.checkpoints,
        filename="best",
        monitor=monitor,
        mode=task.direction,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    if config.trainer.patience is None:
        return [keep]
    stop = EarlyStopping(monitor, mode=task.direction, patience=config.trainer.patience, check_finite=False)
    return [keep, stop]


def _loader(config: RunConfig, data: Data, split: str, trainer: pl.Trainer) -> Any:
    examples = data.split(split).to(trainer.strategy.root_device)
    rank, world_size = trainer.global_rank, trainer.world_size
    if split == "train":
        return _batches(config, examples, derive(config.seed, "order"), rank, world_size)
    return loader(examples, config.task.eval_batch_size, rank=rank, world_size=world_size)


def _batches(config: RunConfig, examples: Split, seed: int, rank: int = 0, world_size: int = 1) -> Any:
    """Training batches."""
    return loader(
        examples,
        config.task.batch_size,
        seed=seed,
        bucket=config.task.bucket,
        classes_per_batch=config.task.classes_per_batch,
        augment=config.task.augment,
        rank=rank,
        world_size=world_size,
    )


def _results(curve: Curve, task: Task) -> dict[str, Any]:
    best = curve.best(task)
    results: dict[str, Any] = {}
    if best is not None:
        results = {name if "/" in name else f"best_{name}": value for name, value in best.items()}
    if curve.rows:
        last = {f"last/{name.partition('/')[2]}": value for name, value in curve.rows[-1].items() if "/" in name}
        results |= last
    for name in (task.metric, "loss"):
        results[f"area/{name}"] = None if task.diverged else curve.area(name)
    return _finite(results)


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN: a number that is not finite becomes null."""
    return {
        name: value if not isinstance(value, float) or math.isfinite(value) else None for name, value in values.items()
    }


def _nbs(config: RunConfig) -> int:
    """Examples whose statistics batch norm pools in training: a rank's share unless it synchronises."""
    world = 1 if config.norm.get("sync") else config.trainer.devices * config.trainer.nodes
    return int(config.norm.get("nbs") or config.task.batch_size // world)
