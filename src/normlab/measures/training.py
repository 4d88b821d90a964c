"""Train, validate, keep the best and the last checkpoint; the test split only if asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from rich.console import Console

from normlab.data.load import Data
from normlab.data.loader import loader
from normlab.measures.callbacks import Curve, Heartbeat, TrainingLog
from normlab.measures.loggers import RunRecord, build_loggers, finish
from normlab.measures.place import Place
from normlab.measures.progress import Bar
from normlab.measures.resumption import Noise, Resumption
from normlab.measures.session import build_task, build_trainer, interruptible, prepare
from normlab.measures.stopping import Stopped
from normlab.models.build import build_model
from normlab.models.checkpoint import read_checkpoint
from normlab.models.lstm import LSTM
from normlab.probes.precise_statistics import PreciseStatistics
from normlab.schema import RunConfig
from normlab.seeds import derive
from normlab.tasks.task import Task


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train one network, from the beginning or from where an interrupted run can go on.

    Returns:
        A flat summary. `validation/…` are the metrics of the best checkpoint by the task's metric, `last/…`
        those of the last validation, `test/…` (if asked for) those of the best checkpoint on the test split.
        A run that diverges has `diverged: true` and the best metrics before it did, if any.
    """
    data = prepare(config)
    torch.manual_seed(derive(config.seed, "init"))
    task = build_task(config, build_model(config.norm, config.model, data.sizes), data)
    log, curve = TrainingLog(config.trainer.log_every), Curve()
    loggers = build_loggers(config, place)
    callbacks: list[pl.Callback] = [log, PreciseStatistics(), curve, *_keepers(config, task, place)]
    assert isinstance(loggers[0], RunRecord)
    callbacks += [Noise(config.seed), Heartbeat(place.folder), Resumption(place, loggers[0], config.trainer)]
    if config.trainer.progress:
        callbacks.append(Bar(Console()))
    trainer = build_trainer(config, place, loggers, callbacks)
    started = time.perf_counter()
    batches, validation = (_loader(config, data, split, trainer) for split in ("train", "validation"))
    if (steps := config.trainer.steps) is not None and steps < len(batches):
        # the epoch ends with the run, so that its validations spread over what is trained
        trainer.limit_train_batches = min(steps, config.trainer.batches or steps)
    with interruptible(trainer), _ended_when_stopped(trainer):
        trainer.fit(task, batches, validation, ckpt_path=place.resume_checkpoint, weights_only=True)
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
    best = curve.best(task)
    if config.test and best is not None:
        weights = read_checkpoint(place.checkpoints / "best.ckpt")["state_dict"]
        task.load_state_dict(weights)
        summary |= _finite(trainer.test(task, _loader(config, data, "test", trainer), verbose=False)[0])
    finish(trainer.loggers, summary)
    return summary


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
    training = split == "train"
    return loader(
        data.split(split).to(trainer.strategy.root_device),
        config.task.batch_size if training else config.task.eval_batch_size,
        seed=derive(config.seed, "order") if training else None,
        bucket=config.task.bucket,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )


def _results(curve: Curve, task: Task) -> dict[str, Any]:
    best = curve.best(task)
    results: dict[str, Any] = {}
    if best is not None:
        results = {**best, "best_step": best["step"]}
        del results["step"]
    if curve.rows:
        last = {f"last/{name.partition('/')[2]}": value for name, value in curve.rows[-1].items() if "/" in name}
        results |= last
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
