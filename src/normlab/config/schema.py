"""The typed config. Imports no torch.

A config is checked in two steps: `RunConfig` checks types and ranges, `normlab.checks.config` what depends on
the whole config (a norm that is not valid at a model's sites, batch norm on single examples).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationInfo,
    field_validator,
)

from normlab.config.errors import InputError
from normlab.config.measures import MeasureConfig
from normlab.config.names import component_name
from normlab.config.strict import Strict
from normlab.config.task import Count, Hub, Sizes, TaskConfig
from normlab.host.cores import usable_cores

__all__ = ["Hub", "InputError", "RunConfig", "Sizes", "TaskConfig"]

Minutes = Annotated[float, Field(gt=0, le=60 * 24 * 3650)]  # ten years, which a timer can still count
Share = Annotated[float, Field(ge=0, lt=1)]


class OptimConfig(Strict):
    """The optimiser and its learning rate schedule. Norm parameters and biases are never decayed."""

    name: Literal["adamw", "sgd", "rmsprop", "muon", "own"]  # own: of a Lightning project
    lr: PositiveFloat | None  # peak learning rate; only a project has its own default
    weight_decay: NonNegativeFloat  # of weight matrices and convolutions only
    betas: tuple[Share, Share] = (0.9, 0.999)  # adamw, and muon for what is no matrix
    momentum: Share = 0.9  # sgd, rmsprop, muon
    alpha: Share = 0.99  # rmsprop: decay of the running mean of the squared gradient
    warmup: Share = 0.0  # share of all steps in which the rate rises linearly from 0
    schedule: Literal["constant", "cosine", "step"] = "cosine"
    final: Share = 0.0  # cosine ends at this share of lr
    milestones: tuple[Share, ...] = (0.5, 0.75)  # step: shares of all steps after which the rate falls
    drop: Annotated[float, Field(gt=0, lt=1)] = 0.1  # to that share of what it was
    clip: PositiveFloat | None = None  # largest gradient norm


class TrainerConfig(Strict):
    """Where and how long a run trains, and what it reports."""

    accelerator: Literal["cpu", "gpu"]
    devices: Annotated[int, Field(gt=0, le=1024)] = 1  # processes, one per device; each gets an equal share of a batch
    nodes: Annotated[int, Field(gt=0, le=65_536)] = 1
    precision: Literal["32-true", "64-true", "bf16-mixed", "16-mixed"] = "32-true"
    epochs: Count  # passes over the training split
    steps: Count | None = None  # stop after that many optimiser steps, if that comes first
    minutes: Minutes | None = None  # stop after that time, if that comes first
    validations: Count  # evenly spaced within an epoch, or within `steps` if they are fewer
    patience: Count | None = None  # stop after that many validations without a better one
    batches: Count | None = None  # at most so many batches per epoch, of each split: for a quick trial
    threads: Count | None = None  # CPU threads of torch; None: one per usable core
    deterministic: bool = True
    compile: bool = False  # torch.compile the model
    log_every: Count = 50  # optimiser steps between two logged training values
    progress: bool = True
    save_steps: Count | None = None  # optimiser steps between two resume points
    save_minutes: Minutes = 2.0  # minutes between two resume points
    monitor: bool = True  # look at the norms, and say at the end what is wrong with them

    @property
    def processes(self) -> int:
        """On all nodes."""
        return self.devices * self.nodes


# options of the trainer that don't decide a result: what it shows, when it saves
SHOWN_OR_SAVED = {"log_every", "progress", "save_steps", "save_minutes", "monitor"}


class WandbConfig(Strict):
    """Weights & Biases. `auto` is online if an API key is configured, offline otherwise; it never asks."""

    project: str
    entity: str | None = None
    group: str | None = None  # None: the cell, norm-model-task and a hash of all choices but the seed
    # in addition to norm, model, task, and the findings and arms of a study's run
    tags: list[str] = Field(default_factory=list)
    mode: Literal["auto", "online", "offline"] = "auto"
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 30.0  # seconds to wait for W&B at the start and end of a run
    artifacts: bool = False  # upload the checkpoints, as `best` and `latest`

    @field_validator("project")
    @classmethod
    def _accepted(cls, project: str) -> str:
        refused = sorted(set(project) & set("/\\#?%:"))
        if refused:
            raise InputError(f"logger.wandb.project={project}: W&B does not allow {refused[0]} in a project's name")
        if not project.strip() or len(project) > 128:
            raise InputError("logger.wandb.project: W&B allows names of 1 to 128 characters")
        return project

    @field_validator("tags")
    @classmethod
    def _short(cls, tags: list[str]) -> list[str]:
        wrong = [tag for tag in tags if not 0 < len(tag) <= 64]
        if wrong:
            raise InputError(f"logger.wandb.tags: W&B allows tags of 1 to 64 characters, not {wrong[0]!r}")
        return tags


class LoggerConfig(Strict):
    """The loggers of a run, any number of them. The run folder's own records are always written."""

    wandb: WandbConfig | None = None
    csv: bool = False
    tensorboard: bool = False


class RunConfig(Strict):
    """A whole run: `conf/train.yaml` with every choice made."""

    norm: dict[str, Any]  # a Hydra partial: _target_ and the norm's options
    model: dict[str, Any]  # likewise
    task: TaskConfig
    optim: OptimConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    measure: MeasureConfig
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    test: bool  # read the test split too, at the end
    ckpt: str | None  # measure=evaluate: the checkpoint to test
    trust: list[str] = Field(default_factory=list)  # modules outside normlab that the checkpoint may name
    output: str  # folder of all results
    cache: str  # folder of materialised data
    rerun: bool  # repeat a finished run; the old one is kept
    accept_code: bool  # accept a finished run although the code has changed since, instead of repeating it
    dry: bool  # print what would be run, and stop
    on_error: str  # when a run of a multirun fails: continue, stop, or retry:N
    plan: str | None  # set by a multirun: the frozen plan of this run
    # set by a study: finding:NAME and arm:NAME for which this run is evidence
    serves: list[str] = Field(default_factory=list)
    pause: Annotated[float, Field(gt=0, lt=1)] | None = None  # set by a study: stop and save at that share of the steps
    debug: bool  # show tracebacks of input errors

    @field_validator("norm", "model")
    @classmethod
    def _named(cls, node: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if not isinstance(node.get("_target_"), str):
            raise InputError(f"{info.field_name} has no _target_: choose one with {info.field_name}=NAME")
        return node

    @field_validator("on_error")
    @classmethod
    def _known(cls, answer: str) -> str:
        if not re.fullmatch(r"continue|stop|retry:[1-9]\d{0,5}", answer):
            raise InputError(
                f"on_error={answer}: write continue, stop, or retry:N for up to N more tries, such as retry:2"
            )
        return answer

    @property
    def norm_name(self) -> str:
        """The norm's name, which is its module's: each norm has its own file."""
        return component_name(self.norm)

    @property
    def model_name(self) -> str:
        """The model's name, which is its module's: each model has its own file."""
        return component_name(self.model)

    @property
    def threads(self) -> int:
        """CPU threads of torch. Timing measures use one unless more are set: other processes share the cores."""
        return self.trainer.threads or (1 if self.measure.exclusive else usable_cores())
