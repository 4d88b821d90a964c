"""Mirrors of a run's record: W&B, CSV and TensorBoard, as configured. Nothing here decides a result."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import Tensor, nn

from normlab.config.names import shortened, slug
from normlab.config.schema import SHOWN_OR_SAVED, InputError, RunConfig, WandbConfig
from normlab.config.task import decisive_options
from normlab.data.load import Data
from normlab.folder.place import Place
from normlab.mirror.predictions import class_names, sample_predictions
from normlab.mirror.wandb_access import is_online
from normlab.mirror.wandb_begin import begin, fragments
from normlab.mirror.wandb_run import Rows, WandbRun


def build_mirrors(config: RunConfig, place: Place, kept: Rows, count: Callable[[], int]) -> list[Logger]:
    """The loggers that the config requests.

    Args:
        config, place: of the run.
        kept: existing rows of the record that a resumed run keeps.
        count: how many rows the record has, including the one being logged.
    """
    mirrors: list[Logger] = []
    labels = labels_of(config, place)
    if config.logger.csv:
        mirrors.append(_csv(place, kept, labels))
    if config.logger.tensorboard:
        mirrors.append(_tensorboard(place, labels))
    if config.logger.wandb is not None:
        wandb = _wandb(config.logger.wandb, place, count, labels)
        wandb.resend(kept)
        mirrors.append(wandb)
    return mirrors


@rank_zero_only
def close_mirrors(mirrors: list[Logger], summary: dict[str, Any]) -> None:
    """Write buffered values and send the summary to W&B; without a summary the run counts as stopped."""
    for mirror in mirrors:
        if isinstance(mirror, WandbRun):
            mirror.close(summary)
        else:
            mirror.finalize("success" if summary else "stopped")


def shows_predictions(mirrors: list[Logger]) -> bool:
    """Does any of them show a trained network's predictions?"""
    return any(isinstance(mirror, WandbRun) for mirror in mirrors)


def show_predictions(mirrors: list[Logger], model: nn.Module, data: Data, confusion: Tensor | None) -> None:
    """Show a model's predictions for validation examples, and its confusion matrix if there is one."""
    samples = sample_predictions(model, data)
    for mirror in mirrors:
        if isinstance(mirror, WandbRun):
            mirror.show_samples(samples)
            if confusion is not None:
                mirror.show_confusion(confusion.tolist(), class_names(data))


def _csv(place: Place, kept: Rows, labels: dict[str, Any]) -> Logger:
    """Lightning's CSV logger starts a new file; a resumed run logs its earlier values again."""
    rank_zero_only(shutil.rmtree)(place.folder / "csv", ignore_errors=True)
    logger = CSVLogger(place.folder, name="", version="csv")
    logger.log_hyperparams(labels)
    for row in kept:
        values = {name: value for name, value in row.items() if name not in ("step", "time") and value is not None}
        logger.log_metrics(values, step=row["step"])
    return logger


def _tensorboard(place: Place, labels: dict[str, Any]) -> Logger:
    from pytorch_lightning.loggers import TensorBoardLogger

    # TensorBoard drops what an interrupted run logged after the resume point
    purge = None if place.resume is None else place.resume.step + 1
    try:
        logger = TensorBoardLogger(
            place.folder, name="", version="tensorboard", purge_step=purge, default_hp_metric=False
        )
    except ModuleNotFoundError:
        raise InputError("logger=tensorboard needs TensorBoard: pip install 'normlab[tensorboard]'") from None
    if place.resume is None:
        logger.log_hyperparams(labels)
    return logger


def _wandb(wandb: WandbConfig, place: Place, count: Callable[[], int], labels: dict[str, Any]) -> WandbRun:
    name = f"{place.id}-{place.attempt}"
    named = (
        os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
    )  # set by the agent of a W&B sweep
    facts = {"id": named or name, "name": place.id, **facts_of(wandb, labels)}
    older = fragments(place.wandb, name) if place.resume else []  # a new run has none
    run = rank_zero_only(begin)(wandb, is_online(wandb), place.folder, facts, older)
    return WandbRun(run, wandb, count, place)


def facts_of(wandb: WandbConfig, labels: dict[str, Any]) -> dict[str, Any]:
    """What W&B's dashboard groups and filters by: group, tags, job type and the whole config."""
    names = [labels["norm"], labels["model"], labels["task"]]
    return {
        "group": shortened(wandb.group or labels["cell"], 128),
        "job_type": labels["measure"],
        "tags": list(dict.fromkeys(map(shortened, [*names, *labels["serves"], *wandb.tags]))),
        "config": labels,
    }


def labels_of(config: RunConfig, place: Place) -> dict[str, Any]:
    """What every mirror says about a run: `norm`, `model`, `task`, `cell`, … and all options."""
    names = {"norm": config.norm_name, "model": config.model_name, "task": config.task.name}
    values = config.model_dump(mode="json", include={"norm", "model", "task", "optim", "trainer", "seed", "test"})
    options = {f"{key}_options" if key in names else key: _plain(value) for key, value in values.items()}
    measure = config.measure.model_dump(mode="json")
    return {
        **names,
        "measure": measure.pop("name"),
        "measure_options": measure,
        "serves": config.serves,
        "lr": config.optim.lr,  # also on the top level, because charts in W&B can't read nested values
        "cell": f"{'-'.join(slug(name, 40) for name in names.values())}-{_digest(config)}",
        "run": place.id,
        "attempt": place.attempt,
        **options,
    }


def _plain(value: Any) -> Any:
    """Without Hydra's own keys."""
    return {k: v for k, v in value.items() if not k.startswith("_")} if isinstance(value, dict) else value


def _digest(config: RunConfig) -> str:
    """A short hash of the config without its seed: runs of one cell have the same."""
    values = config.model_dump(mode="json", include={"norm", "model", "task", "optim", "measure", "test"})
    trainer = config.trainer.model_dump(mode="json", exclude=SHOWN_OR_SAVED)
    values["task"] = decisive_options(values["task"])
    return hashlib.sha256(json.dumps([values, trainer], sort_keys=True).encode()).hexdigest()[:6]
