"""What is fitted to a training split and stored in a checkpoint, to convert other rows for the same model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.views import text
from normlab.views.text import Vocabulary

_TYPES = {
    **{"mean": np.float32, "std": np.float32, "permutation": np.int64},
    **{"feature_mean": np.float64, "feature_std": np.float64, "target_mean": np.float64, "target_std": np.float64},
}


@dataclass(frozen=True)
class Fitted:
    """What is needed to turn rows into tensors.

    classes     their names, for classification
    numbered    labels are class numbers; otherwise they are names
    vocabulary  the text of token ids, for text
    tokenizer   for subwords: the tokenizer as JSON
    shape       (C, H, W) of images
    values      for images of more than 8 bits: the values that become 0 and 255
    resized     images of another size are resized to `shape`
    columns     for tables the features, for series in files the channels
    arrays      for images and series `mean` and `std`, which broadcast over an example; for tables `feature_mean` and
                `feature_std`, in double precision because values may be large and close together; for images
                `permutation`; for regression `target_mean` and `target_std`
    """

    classes: tuple[str, ...] | None = None
    numbered: bool = False
    vocabulary: Vocabulary | None = None
    tokenizer: str | None = None
    shape: tuple[int, ...] | None = None
    values: tuple[float, float] | None = None
    resized: bool = False
    columns: tuple[str, ...] | None = None
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Outputs of a model: one for each class, or the number to predict."""
        return 1 if self.classes is None else len(self.classes)

    @property
    def target(self) -> tuple[float, float] | None:
        """Mean and standard deviation of the training targets of a regression."""
        found = [self.arrays.get(name) for name in ("target_mean", "target_std")]
        return None if found[0] is None or found[1] is None else (float(found[0]), float(found[1]))

    def with_arrays(self, **arrays: NDArray[Any]) -> Fitted:
        """The same with these arrays as well."""
        return replace(self, arrays={**self.arrays, **arrays})

    def record(self) -> dict[str, Any]:
        """The same as plain values, which JSON and checkpoints store exactly."""
        words = self.vocabulary
        return {
            "classes": _listed(self.classes),
            "numbered": self.numbered,
            "vocabulary": words and {"pieces": list(words.pieces), "joiner": words.joiner},
            "tokenizer": self.tokenizer,
            "shape": _listed(self.shape),
            "values": _listed(self.values),
            "statistics": {name: array.tolist() for name, array in self.arrays.items()},
            **({"resized": True} if self.resized else {}),
            **({"columns": list(self.columns)} if self.columns else {}),
        }

    @staticmethod
    def read(record: dict[str, Any]) -> Fitted:
        """Read what `record` returns.

        Raises:
            InputError: it is not such a record.
        """
        try:
            words = record["vocabulary"]
            values = record["values"]
            columns = record.get("columns")
            return Fitted(
                classes=record["classes"] and tuple(map(str, record["classes"])),
                numbered=bool(record["numbered"]),
                vocabulary=words and Vocabulary(tuple(map(str, words["pieces"])), str(words["joiner"])),
                tokenizer=record["tokenizer"],
                shape=record["shape"] and tuple(map(int, record["shape"])),
                values=values and (float(values[0]), float(values[1])),
                resized=bool(record.get("resized", False)),
                columns=columns and tuple(map(str, columns)),
                arrays={name: np.array(array, _TYPES[name]) for name, array in record["statistics"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InputError(
                f"the record of the classes, vocabulary and statistics of the training data is damaged ({error!r:.100})"
            ) from None

    def check(self, task: TaskConfig, sizes: Sizes) -> None:
        """Check that it fits a task, and a model for data of these sizes.

        Raises:
            InputError: it does not.
        """
        if (task.goal in ("classification", "segmentation")) and self.classes is None:
            raise InputError(f"it records 0 classes, and its model has {sizes.outputs} outputs")
        if task.goal == "regression" and self.target is None:
            raise InputError("it does not record the mean and deviation of the targets")
        if not sizes.causal and self.outputs != sizes.outputs:
            raise InputError(f"it records {self.outputs} classes, and its model has {sizes.outputs} outputs")
        if (task.goal == "language_modelling") != sizes.causal or (task.goal == "segmentation") != sizes.dense:
            raise InputError(f"its model is not for {task.goal.replace('_', ' ')}")
        if task.content == "text":
            if len(self.vocabulary or ()) != sizes.vocabulary:
                raise InputError(f"its vocabulary is not that of its model, of {sizes.vocabulary} token ids")
            if task.view == "subwords":
                text.check_tokenizer(self.tokenizer, sizes.vocabulary)
            return
        for name in ("feature_mean", "feature_std") if task.content == "table" else ("mean", "std"):
            if name not in self.arrays or not _spreads(self.arrays[name].shape, sizes.shape):
                raise InputError(f"its record of the {name} does not fit examples of shape {list(sizes.shape)}")
        order = self.arrays.get("permutation")
        if order is not None and not np.array_equal(np.sort(order.ravel()), np.arange(order.size)):
            raise InputError("its order of the pixels is not a permutation")


def _spreads(shape: tuple[int, ...], over: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, over) == over
    except ValueError:
        return False


def _listed(values: tuple[Any, ...] | None) -> list[Any] | None:
    return None if values is None else list(values)


def fit_text(task: TaskConfig, texts: Sequence[str]) -> tuple[Vocabulary, str | None]:
    """The vocabulary of the training texts, and for subwords the tokenizer."""
    if task.view == "characters":
        return text.fit_characters(texts, task.vocabulary), None
    if task.view == "words":
        return text.fit_words(texts, _splitter(task), task.vocabulary), None
    assert task.vocabulary is not None
    return text.fit_subwords(texts, task.vocabulary)


def encoder(task: TaskConfig, vocabulary: Vocabulary, tokenizer: str | None) -> text.Encoder:
    """The function that turns a text into token ids."""
    if task.view == "characters":
        return text.character_encoder(vocabulary)
    if task.view == "words":
        return text.word_encoder(vocabulary, _splitter(task))
    assert tokenizer is not None
    return text.subword_encoder(tokenizer)


def _splitter(task: TaskConfig) -> Any:
    return str.split if task.goal == "language_modelling" else text.split_words
