"""The typed config. Imports no torch.

A config is checked in two steps: `RunConfig` checks types and ranges, `checked` what depends on the whole config
(a norm that is not valid at a model's sites, batch norm on single examples).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationInfo,
    field_validator,
    model_validator,
)

from normlab.config.errors import InputError
from normlab.config.measures import MeasureConfig
from normlab.config.names import check_name
from normlab.config.strict import Strict
from normlab.host.cores import usable_cores

Count = Annotated[int, Field(gt=0, lt=2**31)]  # torch and Lightning store counts as C ints
Minutes = Annotated[float, Field(gt=0, le=60 * 24 * 3650)]  # ten years, which a timer can still count
Share = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class Sizes:
    """What a model must know about its data.

    kind        images: float [B, C, H, W] · features: float [B, T, F] · tokens: int64 [B, T]
    shape       of one example: (C, H, W), (T, F) or (T,), T the longest sequence
    outputs     classes, or the vocabulary of a language model
    vocabulary  number of token ids (tokens only); id 0 is padding in classification
    positions   time steps that at least 16 training sequences reach (None for images)
    causal      language modelling: one output per position, which must not see later positions
    shortest    time steps of the shortest training sequence (None for images)
    examples    training examples, or windows of a text; None: not known
    """

    kind: Literal["images", "features", "tokens"]
    shape: tuple[Count, ...]
    outputs: Count
    vocabulary: Count | None = None
    positions: Count | None = None
    causal: bool = False
    shortest: Count | None = None
    examples: Annotated[int, Field(gt=0, lt=2**63)] | None = None


class Hub(Strict):
    """Where to find a data set on the Hugging Face hub."""

    name: str
    config: str | None = None
    revision: str | None = None  # a commit or tag; None: the newest, whose fingerprint is recorded
    folder: str | None = None  # folder in the repository that has the files of one config
    splits: dict[Literal["train", "validation", "test"], str]  # our name of a split → its name on the hub


class TaskConfig(Strict):
    """Data, what to predict from it, and how long to train by default."""

    name: str
    goal: Literal["classification", "language_modelling"]
    source: Literal["embedded", "hub", "path"]
    view: Literal["images", "rows", "pixels", "permuted_pixels", "series", "characters", "words", "subwords"]
    input: str  # column of the image, the time series or the text
    target: str | None = None  # column of the label; language modelling has none
    pack: str | None = None  # source=embedded: stem of the files in data/packs, or several joined by +
    hub: Hub | None = None  # source=hub
    path: str | None = None  # source=path: .parquet .csv .jsonl .txt, a folder of them by split, or of images by class
    max_length: Count | None = None  # longest sequence, in time steps; language modelling: the window
    truncate: bool = False  # cut longer examples at max_length instead of refusing them
    vocabulary: Annotated[int, Field(gt=2, lt=2**31)] | None = None  # words and subwords: most token ids to keep
    validation: Annotated[float, Field(gt=0, lt=1)] = (
        0.1  # share of train to hold out (at random; the end of a text) if there is no validation split
    )
    bucket: bool = False  # batches of similar lengths: less padding
    classes_per_batch: Count | None = None  # classes per training batch; None: as they come
    augment: bool = False  # shift training images by up to 4 pixels and mirror them at random
    batch_size: Count  # examples per batch, over all processes
    eval_batch_size: Count = 500
    epochs: Count  # passes over the training split
    steps: Count | None = None  # stop after that many optimiser steps, if that comes first
    validations: Count = 1  # evenly spaced within an epoch

    @field_validator("name")
    @classmethod
    def _named(cls, name: str) -> str:
        return check_name("task.name", name)

    @model_validator(mode="after")
    def _complete(self) -> TaskConfig:
        origin = {"embedded": "pack", "hub": "hub", "path": "path"}[self.source]
        if getattr(self, origin) is None:
            raise InputError(f"task.source={self.source} needs task.{origin}=...")
        if self.path is not None and self.source != "path":
            raise InputError(f"task.path needs task.source=path, not task.source={self.source}")
        if self.goal == "language_modelling" and self.content != "text":
            raise InputError(
                f"language modelling needs task.view=characters, words or subwords, not task.view={self.view}"
            )
        if self.goal == "language_modelling" and self.max_length is None:
            raise InputError("language modelling needs task.max_length, the window in tokens")
        if self.goal == "classification" and self.target is None:
            raise InputError("classification needs task.target, the column of the label")
        if self.view == "subwords" and self.vocabulary is None:
            raise InputError("task.view=subwords needs task.vocabulary, the number of token ids")
        if self.augment and self.view != "images":
            raise InputError(f"task.augment=true shifts and mirrors images, not task.view={self.view}")
        if self.classes_per_batch is not None:
            self._check_classes(self.classes_per_batch)
        return self

    @property
    def place(self) -> Path:
        """Where local data are. A path is taken literally, except for a leading ~."""
        path = Path(str(self.path))
        try:
            return path.expanduser()
        except RuntimeError:  # of a user that doesn't exist
            return path

    @property
    def content(self) -> Literal["images", "series", "text"]:
        """What the examples are, however a model reads them: images may be read as sequences."""
        if self.view == "series":
            return "series"
        return "text" if self.view in ("characters", "words", "subwords") else "images"

    def _check_classes(self, classes: int) -> None:
        asked = f"task.classes_per_batch={classes}"
        if self.goal == "language_modelling":
            raise InputError(f"{asked}: language modelling has no classes; use null")
        if self.bucket:
            raise InputError(
                f"{asked} and task.bucket=true both determine the content of a batch: set task.bucket=false"
            )
        if classes > self.batch_size:
            raise InputError(
                f"{asked} needs a batch of at least as many examples, but task.batch_size={self.batch_size}"
            )


class OptimConfig(Strict):
    """The optimiser and its learning rate schedule. Norm parameters and biases are never decayed."""

    name: Literal["adamw", "sgd", "rmsprop", "muon"]
    lr: PositiveFloat  # peak learning rate
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


# Options that don't decide a result. Of the task: where the data are, because their fingerprint identifies them, and
# # defaults of trainer options, because the trainer has the final values; of the trainer: what it shows, when it saves.
ELSEWHERE = ("path", "hub", "source", "epochs", "steps", "validations")
SHOWN_OR_SAVED = {"log_every", "progress", "save_steps", "save_minutes", "monitor"}


class WandbConfig(Strict):
    """Weights & Biases. `auto` is online if an API key is configured, offline otherwise; it never asks."""

    project: str
    entity: str | None = None
    group: str | None = None  # None: the cell, norm-model-task and a hash of all choices but the seed
    tags: list[str] = Field(default_factory=list)  # besides norm, model, task, and a study's findings and arms
    mode: Literal["auto", "online", "offline"] = "auto"
    timeout: Annotated[float, Field(gt=0, le=86_400)] = 30.0  # seconds to wait for W&B at the start and end of a run
    artifacts: bool = False  # upload the checkpoints, as `best` and `latest`

    @field_validator("project")
    @classmethod
    def _accepted(cls, project: str) -> str:
        refused = sorted(set(project) & set("/\\#?%:"))
        if refused:
            raise InputError(
                f"logger.wandb.project={project}: W&B does not allow {refused[0]} in the name of a project"
            )
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


def component_name(node: dict[str, Any]) -> str:
    """`{"_target_": "normlab.norms.layer.LayerNorm"}` → `"layer"`."""
    return str(node["_target_"]).rpartition(".")[0].rpartition(".")[2]
