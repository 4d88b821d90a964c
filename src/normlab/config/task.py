"""What a run learns: its data, its goal and its batches. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from normlab.config.errors import InputError
from normlab.config.names import check_name
from normlab.config.strict import Strict

Count = Annotated[int, Field(gt=0, lt=2**31)]  # torch and Lightning store counts as C ints


@dataclass(frozen=True)
class Sizes:
    """What a model must know about its data.

    kind        images: float [B, C, H, W] · features: float [B, T, F] · tokens: int64 [B, T] · table: float [B, F]
    shape       of one example: (C, H, W), (T, F), (T,) or (F,), T the longest sequence
    outputs     classes, the vocabulary of a language model, or 1 in regression
    vocabulary  number of token ids (tokens only); id 0 is padding in classification
    positions   time steps that at least 16 training sequences reach (None for images and tables)
    causal      language modelling: one output per position, which must not see later positions
    shortest    time steps of the shortest training sequence (None for images and tables)
    examples    training examples, or windows of a text; None: not known
    dense       segmentation: outputs for each pixel, [B, outputs, H, W]
    """

    kind: Literal["images", "features", "tokens", "table"]
    shape: tuple[Count, ...]
    outputs: Count
    vocabulary: Count | None = None
    positions: Count | None = None
    causal: bool = False
    shortest: Count | None = None
    examples: Annotated[int, Field(gt=0, lt=2**63)] | None = None
    dense: bool = False


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
    # auto: by the target; own, here and below: of a Lightning project
    goal: Literal["classification", "regression", "segmentation", "language_modelling", "auto", "own"]
    source: Literal["embedded", "hub", "path", "own"]
    view: Literal[
        "images", "rows", "pixels", "permuted_pixels", "series", "characters", "words", "subwords", "table", "own"
    ]
    # column of the image, the time series or the text; series and tables may have several; null: all of a table
    input: str | list[str] | None
    target: str | None = None  # column of the label, number or mask; language modelling has none
    pack: str | None = None  # source=embedded: stem of the files in data/packs, or several joined by +
    hub: Hub | None = None  # source=hub
    path: str | None = None  # source=path: .parquet .csv .jsonl .txt, a folder of them by split, or of images by class
    test: str | None = None  # source=path: a table of test rows in another place
    groups: str | None = None  # column of which all rows with one value are in one split
    omit: list[str] = Field(default_factory=list)  # tables: columns that are not features
    missing: Literal["refuse", "mean"] = "refuse"  # tables and series: a missing number
    size: Count | tuple[Count, Count] | None = None  # images: height and width to which all are resized
    ignore: Annotated[int, Field(ge=0, lt=2**16)] | None = None  # segmentation: value of pixels that don't count
    max_length: Count | None = None  # longest sequence, in time steps; language modelling: the window
    truncate: bool = False  # cut longer examples at max_length instead of refusing them
    vocabulary: Annotated[int, Field(gt=2, lt=2**31)] | None = None  # words and subwords: most token ids to keep
    # share of train to hold out (at random; the end of a text) if there is no validation split
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
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
        if self.goal == "own":
            return self
        origin = {"embedded": "pack", "hub": "hub", "path": "path"}[self.source]
        if getattr(self, origin) is None:
            raise InputError(f"task.source={self.source} needs task.{origin}=...")
        if self.path is not None and self.source != "path":
            raise InputError(f"task.path needs task.source=path, not task.source={self.source}")
        if self.test is not None and self.source != "path":
            raise InputError(f"task.test needs task.source=path, not task.source={self.source}")
        if self.goal == "language_modelling":
            self._check_language()
        elif self.target is None:
            what = {"segmentation": "folder or column of the masks", "regression": "column of the number to predict"}
            raise InputError(f"{self.goal} needs task.target, the {what.get(self.goal, 'column of the label')}")
        if self.goal == "segmentation" and self.view != "images":
            raise InputError(f"segmentation needs task.view=images, not task.view={self.view}")
        if self.goal == "auto" and self.content != "table":
            raise InputError("task.goal=auto is for tables: choose classification or regression")
        if self.view == "subwords" and self.vocabulary is None:
            raise InputError("task.view=subwords needs task.vocabulary, the number of token ids")
        if self.augment and self.view != "images":
            raise InputError(f"task.augment=true shifts and mirrors images, not task.view={self.view}")
        self._check_columns()
        self._check_fits()
        if self.classes_per_batch is not None:
            self._check_classes(self.classes_per_batch)
        return self

    def _check_language(self) -> None:
        if self.content != "text":
            raise InputError(
                f"language modelling needs task.view=characters, words or subwords, not task.view={self.view}"
            )
        if self.max_length is None:
            raise InputError("language modelling needs task.max_length, the window in tokens")
        if self.groups is not None:
            raise InputError("task.groups keeps rows together, and language modelling cuts one text: use null")

    def _check_columns(self) -> None:
        """Has each column one use?"""
        if self.content not in ("table", "series") and not isinstance(self.input, str):
            raise InputError(f"task.view={self.view} reads one column: give task.input one name")
        if self.content == "series" and not self.input:
            raise InputError("task.input: name the column of the series, or one for each channel")
        if self.groups is not None and self.groups == self.target:
            raise InputError(
                f"task.groups={self.groups} is the target too: each split would have other targets; name the column "
                "of what the rows have in common, such as a person"
            )
        inputs = self.inputs or []
        twice = next((name for i, name in enumerate(inputs) if name in inputs[:i]), None)
        if twice is not None:
            raise InputError(f"task.input names {twice!r} twice")
        for option in ("target", "groups"):
            if getattr(self, option) in inputs and not (self.goal == "segmentation" and option == "target"):
                raise InputError(f"task.{option}={getattr(self, option)} is in task.input too, so it would be known")

    def _check_fits(self) -> None:
        """Are there no options of other views or goals?"""
        wrong = {
            "task.omit": bool(self.omit) and self.content != "table" and "leaves out columns of a table",
            "task.missing=mean": self.missing == "mean"
            and self.content not in ("table", "series")
            and "fills numbers of tables and series",
            "task.size": self.size is not None and self.content != "images" and "resizes images",
            "task.ignore": self.ignore is not None and self.goal != "segmentation" and "is for masks of a segmentation",
        }
        for option, why in wrong.items():
            if why:
                raise InputError(f"{option} {why}, not for task.view={self.view} with task.goal={self.goal}")

    @property
    def inputs(self) -> list[str] | None:
        """The columns of the input; None: all of a table but those with another use."""
        return [self.input] if isinstance(self.input, str) else self.input or None

    @property
    def place(self) -> Path:
        """Where local data are. A path is taken literally, except for a leading ~."""
        return _expanded(str(self.path))

    @property
    def test_place(self) -> Path | None:
        """Where the table of test rows is, if it is in another place."""
        return None if self.test is None else _expanded(self.test)

    @property
    def content(self) -> Literal["images", "series", "text", "table"]:
        """What the examples are, however a model reads them: images may be read as sequences."""
        if self.view == "series" or self.view == "table":
            return self.view
        return "text" if self.view in ("characters", "words", "subwords") else "images"

    def _check_classes(self, classes: int) -> None:
        asked = f"task.classes_per_batch={classes}"
        if self.goal != "classification":
            raise InputError(f"{asked}: only classification has them, not task.goal={self.goal}; use null")
        if self.bucket:
            raise InputError(
                f"{asked} and task.bucket=true both determine the content of a batch: set task.bucket=false"
            )
        if classes > self.batch_size:
            raise InputError(
                f"{asked} needs a batch of at least as many examples, but task.batch_size={self.batch_size}"
            )


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of a user that doesn't exist
        return Path(path)


# Options of a task that don't decide a result: where the data are, because their fingerprint identifies them, and
# defaults of trainer options, because the trainer has the final values.
_ELSEWHERE = ("path", "test", "hub", "source", "epochs", "steps", "validations")
# options added after the first runs, at the value at which a task is what it was
_NEUTRAL: dict[str, Any] = {"groups": None, "omit": [], "missing": "refuse", "size": None, "ignore": None}


def decisive_options(task: dict[str, Any]) -> dict[str, Any]:
    """The options of a task, as plain values, that decide a result; without those that are neutral."""
    return {
        name: value
        for name, value in task.items()
        if name not in _ELSEWHERE and not (name in _NEUTRAL and value == _NEUTRAL[name])
    }
