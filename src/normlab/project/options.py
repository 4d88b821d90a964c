"""The options of a Lightning project, and what can be checked of it without importing it. Imports no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, PositiveFloat

from normlab.config.components import check_call, lower, shown
from normlab.config.errors import InputError
from normlab.config.parameters import Parameters
from normlab.config.schema import RunConfig
from normlab.config.strict import Strict

_Share = Annotated[float, Field(gt=0, le=1)]
_Count = Annotated[int, Field(gt=0, lt=2**31)]


class ProjectTrainer(Strict):
    """Options of Lightning's Trainer; None: Lightning's default. Those that normlab sets itself are not among them."""

    accumulate_grad_batches: _Count
    gradient_clip_val: PositiveFloat | None
    gradient_clip_algorithm: Literal["norm", "value"] | None
    val_check_interval: _Count | _Share | None
    check_val_every_n_epoch: _Count | None
    reload_dataloaders_every_n_epochs: Annotated[int, Field(ge=0, lt=2**31)]
    limit_val_batches: _Count | _Share | None
    benchmark: bool | None
    inference_mode: bool | None
    strategy: Literal["ddp", "ddp_find_unused_parameters_true"] | None


class ProjectConfig(Strict):
    """A Lightning project; see `conf/project/lightning.yaml`."""

    target: str
    arguments: dict[str, Any]
    data: str | None
    data_arguments: dict[str, Any]
    metric: str | None
    mode: Literal["max", "min"] | None
    lr: str | None
    only: str | list[str]
    callbacks: list[str]
    trainer: ProjectTrainer

    @property
    def direction(self) -> Literal["max", "min"]:
        """Whether a higher or a lower metric is better."""
        return self.mode or direction_of(self.metric or "") or "max"


def project_of(config: RunConfig) -> ProjectConfig:
    """The run's Lightning project.

    Raises:
        InputError: an option has the wrong type.
    """
    values = {name: value for name, value in config.model.items() if name != "_target_"}
    try:
        return ProjectConfig.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"][:2])
        raise InputError(f"project.{key}={shown(problem['input'])}: {lower(problem['msg'])}.") from None


def check_project(config: RunConfig, project: ProjectConfig) -> None:
    """Can the project's classes be found and called, and is there all that a run needs? Nothing is imported.

    Raises:
        InputError: it is not so.
    """
    if config.trainer.compile:
        raise InputError("trainer.compile=true: a project compiles its network itself; leave this option out")
    if project.trainer.strategy is not None and config.trainer.processes == 1:
        raise InputError(
            f"project.trainer.strategy={project.trainer.strategy} is for several processes: add trainer=ddp, or leave "
            "this option out"
        )
    given = arguments(config, project, check_call("project", project.target, "project.arguments", project.arguments))
    check_call("project", project.target, "project.arguments", given)
    if project.data is not None:
        check_call("project.data", project.data, "project.data_arguments", project.data_arguments)
    elif project.data_arguments:
        raise InputError(
            "project.data_arguments are those of a LightningDataModule: name it with project.data=MODULE:CLASS"
        )
    for callback in project.callbacks:
        check_call("project.callbacks", callback, "project.callbacks", {})
    if project.metric is not None and project.mode is None and direction_of(project.metric) is None:
        raise InputError(f"metric={project.metric}: is a higher value better, or a lower one? Say mode=max or mode=min")


def arguments(config: RunConfig, project: ProjectConfig, known: Parameters | None) -> dict[str, Any]:
    """What the LightningModule is called with: its arguments, and the learning rate of `optim.lr`.

    Args:
        known: what it can be called with.

    Raises:
        InputError: no argument is known to be the learning rate.
    """
    if config.optim.lr is None:
        return project.arguments
    names = list(known.types) if known is not None else [project.lr or "lr", *project.arguments]
    asked = [project.lr] if project.lr is not None else ["lr", "learning_rate"]
    found = next((name for name in asked if name in names), None)
    if found is None:
        raise InputError(
            f"optim.lr={config.optim.lr:g}: {project.target} has no argument {' or '.join(asked)}: project.lr=NAME "
            f"names the one that is the learning rate; its arguments: {', '.join(names) or 'none'}"
        )
    if found in project.arguments:
        raise InputError(f"optim.lr and project.arguments.{found} both set the learning rate: leave one out")
    return {**project.arguments, found: config.optim.lr}


def said(config: RunConfig, project: ProjectConfig) -> Iterator[str]:
    """What was decided without having been asked for, in a line each."""
    if project.metric is not None and project.mode is None:
        yield f"mode={project.direction}, by the name of metric={project.metric}"
    known = check_call("project", project.target, "project.arguments", project.arguments)
    if config.optim.lr is not None and project.lr is None:
        (name,) = set(arguments(config, project, known)) - set(project.arguments)
        yield f"optim.lr is the argument {name}"


def direction_of(metric: str) -> Literal["max", "min"] | None:
    """Whether a higher or lower value is better, by the words in a metric's name; None if they don't tell."""
    words = set(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric).lower()))
    lower, higher = words & _LOWER, words & _HIGHER
    if bool(lower) == bool(higher):
        return "min" if "loss" in words else None  # as in dice_loss
    return "min" if lower else "max"


_LOWER = {"loss", "error", "err", "mse", "rmse", "mae", "mape", "nll", "bce", "perplexity", "ppl", "bpc", "bits", "wer",
          "cer", "fid", "distance", "eer", "ece"}  # fmt: skip
_HIGHER = {"accuracy", "acc", "dice", "iou", "miou", "jaccard", "f1", "auc", "auroc", "auprc", "ap", "map", "precision",
           "recall", "sensitivity", "specificity", "r2", "psnr", "ssim", "bleu", "rouge", "kappa", "mcc", "pearson",
           "spearman", "score", "top1", "top5"}  # fmt: skip
