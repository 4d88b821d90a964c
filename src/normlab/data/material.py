"""A data set as arrays, built once from rows and then stored. Imports no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.data import source
from normlab.data.fitted import Fitted, encoder, fit_text
from normlab.files.folders import SPLITS, Layout
from normlab.views import columns, images, sequences, series, text
from normlab.views.columns import Column
from normlab.views.sequences import Arrays

SPLIT_SEED = 0  # one validation split for all runs


@dataclass(frozen=True)
class Material:
    """A data set as arrays.

    sizes       what a model must know
    fitted      what was fitted to the training split and used to make the arrays
    arrays      `<split>.inputs` with `<split>.targets`, and `<split>.lengths` if they differ; or `<split>.tokens`
    source      where the rows came from, in words
    characters  predicted characters of each split, for language modelling
    held_out    validation is a share of the training split, because the source has no validation split
    absent      test → why it can't be used, although the source has one
    done        how many images each rule has changed
    """

    sizes: Sizes
    fitted: Fitted
    arrays: Arrays
    source: str
    characters: dict[str, int] | None = None
    held_out: bool = False
    absent: dict[str, str] = field(default_factory=dict)
    done: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Examples of each split, or tokens of a text."""
        names = {split: f"{split}.{'tokens' if self.sizes.causal else 'targets'}" for split in SPLITS}
        return {split: len(self.arrays[name]) for split, name in names.items() if name in self.arrays}

    def check_split(self, split: str, task: str) -> None:
        """Check that there is such a split.

        Raises:
            InputError: there is none, or it can't be used.
        """
        if split in self.absent:
            raise InputError(f"the {split} split can't be used: {self.absent[split]}")
        if split not in self.counts():
            raise InputError(f"task={task} has no {split} split; it has: {', '.join(self.counts())}")


class _Builder:
    """Turns rows into arrays. An error in the test split is raised only if the test split is requested."""

    def __init__(self, task: TaskConfig, known: Fitted | None) -> None:
        self.task = task
        self.known = known
        self.absent: dict[str, str] = {}
        self.done: Counter[str] = Counter()
        self.held_out = False

    @contextmanager
    def of(self, split: str) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            if split != "test" or self.known is not None:
                raise
            self.absent[split] = str(error)

    def finish(self, sizes: Sizes, fitted: Fitted, arrays: Arrays, origin: str) -> Material:
        arrays = {name: array for name, array in arrays.items() if name.split(".")[0] not in self.absent}
        material = Material(sizes, fitted, arrays, origin, held_out=self.held_out, absent=self.absent)
        return replace(material, done=dict(self.done))

    def wanted(self, read: source.Read) -> list[str]:
        """The splits to read; with `known`, those that are evaluated, and train only if rows must be held out."""
        if self.known is None or "validation" not in read:
            return [split for split in SPLITS if split in read]
        return [split for split in SPLITS[1:] if split in read]


def build(task: TaskConfig, found: Layout | None, known: Fitted | None = None) -> Material:
    """Read, check and convert all rows of a task.

    Args:
        task: what to read, and in which view.
        found: its files; None for the hub.
        known: what was fitted before. Then only validation and test data are built, and nothing is fitted.

    Raises:
        InputError: the source can't be read, or a value is not what the task needs.
    """
    read, origin = source.read(task, found)
    builder = _Builder(task, known)
    material = (_language if task.goal == "language_modelling" else _classification)(builder, read, origin)
    return material if known is None else replace(material, arrays=_without_training(material.arrays))


def _without_training(arrays: Arrays) -> Arrays:
    return {name: array for name, array in arrays.items() if not name.startswith("train.")}


def _classification(builder: _Builder, read: source.Read, origin: str) -> Material:
    task, known = builder.task, builder.known
    target = str(task.target)
    inputs: dict[str, Column] = {}
    targets: dict[str, NDArray[np.int64]] = {}
    classes, numbered = (None, False) if known is None else (known.classes, known.numbered)
    for split in builder.wanted(read):
        with builder.of(split):
            parts = read[split]()
            found = columns.column(parts, task.input)
            found = columns.texts(found) if task.content == "text" else found
            labels = columns.labels(parts, target, classes if numbered else None)
            if classes is None:
                typed = all(part.typed for part in parts)
                classes, numbered = columns.classes_of(labels, parts[0].names, typed)
            targets[split] = columns.encode_labels(labels, classes, numbered)
            inputs[split] = found
    assert classes is not None
    if "validation" not in inputs and "train" in inputs:
        kept, held = _hold_out(len(inputs["train"]), task.validation)
        inputs |= {"train": inputs["train"].take(kept), "validation": inputs["train"].take(held)}
        targets |= {"train": targets["train"][kept], "validation": targets["train"][held]}
        builder.held_out = True
    if known is not None:
        inputs.pop("train", None)
    fitted = known or Fitted(classes=classes, numbered=numbered)
    convert = {"images": _pixels, "series": _series, "text": _sequences}[task.content]
    sizes, fitted, arrays = convert(builder, {split: inputs[split] for split in SPLITS if split in inputs}, fitted)
    return builder.finish(sizes, fitted, {f"{split}.targets": t for split, t in targets.items()} | arrays, origin)


def _hold_out(count: int, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows kept for training and rows held out, at random, because the end of a file may have only one class."""
    held = max(1, round(count * share))
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def _pixels(builder: _Builder, inputs: dict[str, Column], fitted: Fitted) -> tuple[Sizes, Fitted, Arrays]:
    task, outputs = builder.task, len(fitted.classes or ())
    shape, values = fitted.shape, fitted.values
    decoded: dict[str, images.Pixels] = {}
    for split, found in inputs.items():
        with builder.of(split):
            decoded[split], values = images.decode(found, shape, values, builder.done)
            shape = shape or decoded[split].shape[1:]
    assert shape is not None
    channels, height, width = shape
    if builder.known is None:
        fitted = _fit_pixels(task, replace(fitted, shape=shape, values=values), decoded["train"])
    if task.view == "images":
        return Sizes("images", shape, outputs), fitted, {f"{split}.inputs": found for split, found in decoded.items()}
    steps, features = (height, width * channels) if task.view == "rows" else (height * width, channels)
    kept = fitted.arrays.get("permutation", np.arange(steps))[: _window(task, steps)]
    arrays: Arrays = {}
    for split, pixels in decoded.items():
        sequence = pixels.transpose(0, 2, 3, 1).reshape(len(pixels), steps, features)
        arrays[f"{split}.inputs"] = np.ascontiguousarray(sequence[:, kept])
    return Sizes("features", (len(kept), features), outputs, positions=len(kept)), fitted, arrays


def _fit_pixels(task: TaskConfig, fitted: Fitted, train: images.Pixels) -> Fitted:
    mean, std = images.moments(train)
    channels, height, width = train.shape[1:]
    if task.view == "images":
        return replace(fitted, arrays={"mean": mean[:, None, None], "std": std[:, None, None]})
    features = width * channels if task.view == "rows" else channels
    arrays: Arrays = {"mean": np.resize(mean, features), "std": np.resize(std, features)}
    if task.view == "permuted_pixels":
        arrays["permutation"] = images.permutation(height * width)
    return replace(fitted, arrays=arrays)


def _window(task: TaskConfig, steps: int) -> int:
    if task.max_length is None or steps <= task.max_length:
        return steps
    if not task.truncate:
        raise InputError(
            f"task.max_length={task.max_length}, but every image is a sequence of {steps} time steps; set "
            f"task.max_length={steps}, or task.truncate=true to cut them"
        )
    return task.max_length


def _sequences(builder: _Builder, inputs: dict[str, Column], fitted: Fitted) -> tuple[Sizes, Fitted, Arrays]:
    task = builder.task
    if builder.known is None:
        vocabulary, tokenizer = fit_text(task, inputs["train"].values)
        fitted = replace(fitted, vocabulary=vocabulary, tokenizer=tokenizer)
    assert fitted.vocabulary is not None
    ids, encode = len(fitted.vocabulary), encoder(task, fitted.vocabulary, fitted.tokenizer)
    encoded: dict[str, list[text.Ids]] = {}
    for split, found in inputs.items():
        with builder.of(split):
            encoded[split] = _encode(task, found, encode)
    arrays, longest, positions = sequences.packed(encoded, _compact(ids))
    sizes = Sizes("tokens", (longest,), len(fitted.classes or ()), vocabulary=ids, positions=positions)
    return sizes, fitted, arrays


def _encode(task: TaskConfig, column: Column, encode: text.Encoder) -> list[text.Ids]:
    encoded = [encode(value) for value in column.values]
    for i, ids in enumerate(encoded):
        if not len(ids):
            column.refuse(i, "the text contains no tokens")
    return sequences.limited(task, column, encoded, task.view)


def _series(builder: _Builder, inputs: dict[str, Column], fitted: Fitted) -> tuple[Sizes, Fitted, Arrays]:
    task = builder.task
    features = len(fitted.arrays["mean"]) if builder.known else None
    decoded: dict[str, list[series.Series]] = {}
    for split, column in inputs.items():
        with builder.of(split):
            found = series.decode(column, features)
            decoded[split] = sequences.limited(task, column, found, "time steps")
            features = found[0].shape[1]
    if builder.known is None:
        mean, std = series.moments(decoded["train"])
        fitted = replace(fitted, arrays={"mean": mean, "std": std})
    fill = fitted.arrays["mean"]  # which becomes 0 when it is standardised
    arrays, longest, positions = sequences.packed(decoded, np.float32, fill)
    return Sizes("features", (longest, len(fill)), len(fitted.classes or ()), positions=positions), fitted, arrays


def _compact(ids: int) -> type[np.integer]:
    """The smallest integer type for that many token ids from which torch can gather."""
    return np.uint8 if ids <= 2**8 else np.int16 if ids <= 2**15 else np.int32


def _language(builder: _Builder, read: source.Read, origin: str) -> Material:
    """One stream of tokens per split: an end token, then each document followed by an end token."""
    task, known = builder.task, builder.known
    documents: dict[str, list[str]] = {}
    for split in builder.wanted(read):
        with builder.of(split):
            documents[split] = list(columns.texts(columns.column(read[split](), task.input)).values)
    if "validation" not in documents and "train" in documents:
        documents["train"], documents["validation"] = _cut_end(documents["train"], task.validation)
        builder.held_out = True
    if known is None:
        vocabulary, tokenizer = fit_text(task, documents["train"])
        fitted = Fitted(vocabulary=vocabulary, tokenizer=tokenizer)
    else:
        documents.pop("train", None)
        fitted = known
    assert fitted.vocabulary is not None
    ids, encode = len(fitted.vocabulary), encoder(task, fitted.vocabulary, fitted.tokenizer)
    end = np.array([text.END], np.int32)
    arrays: Arrays = {}
    for split in (split for split in SPLITS if split in documents):
        pieces = [end, *(piece for document in documents[split] for piece in (encode(document), end))]
        arrays[f"{split}.tokens"] = np.concatenate(pieces).astype(_compact(ids))
    window = task.max_length
    assert window is not None
    if known is None and len(arrays["train.tokens"]) <= window:
        raise InputError(
            f"the training text has {len(arrays['train.tokens']) - 1} tokens, fewer than one window of "
            f"task.max_length={window}"
        )
    characters = {split: sum(len(document) + 1 for document in found) for split, found in documents.items()}
    sizes = Sizes("tokens", (window,), ids, vocabulary=ids, positions=window, causal=True)
    return replace(builder.finish(sizes, fitted, arrays, origin), characters=characters)


def _cut_end(documents: list[str], share: float) -> tuple[list[str], list[str]]:
    """The documents before the last `share` of all characters, and the rest; a document may be cut in two."""
    left = round(sum(map(len, documents)) * (1 - share))
    for i, document in enumerate(documents):
        if left < len(document):
            return [*documents[:i], document[:left]], [document[left:], *documents[i + 1 :]]
        left -= len(document)
    raise InputError("the training text is too short to hold out a validation text from it")
