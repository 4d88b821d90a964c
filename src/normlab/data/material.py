"""A data set as arrays: built once from rows, then stored. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.data import columns, images, source, text
from normlab.data.columns import Column

SPLIT_SEED = 0  # one validation split for all runs
REACHED_BY = 16  # training sequences a position must have to get its own batch statistics


@dataclass(frozen=True)
class Material:
    """A data set as arrays.

    arrays      `<split>.inputs` with `<split>.targets`, and `<split>.lengths` where they differ; or `<split>.tokens`;
                for pixels `mean` and `std`, which broadcast over an example, and `permutation`
    classes     their names, for classification
    vocabulary  the text of token ids, for text
    characters  predicted characters of each split, for language modelling
    source      where the rows came from, in words
    """

    sizes: Sizes
    arrays: dict[str, NDArray]
    source: str
    classes: tuple[str, ...] | None = None
    vocabulary: text.Vocabulary | None = None
    characters: dict[str, int] | None = None


def build(task: TaskConfig) -> Material:
    """Reads, checks and converts all rows of a task.

    Raises:
        InputError: the source can't be read, or a value is not what the task needs.
    """
    parts, origin = source.read(task)
    build_from = _language if task.goal == "language_modelling" else _classification
    return build_from(task, parts, origin)


def _classification(task: TaskConfig, parts: source.Parts, origin: str) -> Material:
    target = str(task.target)
    textual = task.view in ("characters", "words", "subwords")
    inputs = {split: columns.column(part, task.input, "input") for split, part in parts.items()}
    if textual:
        inputs = {split: columns.texts(found) for split, found in inputs.items()}
    labels = {split: columns.column(part, target, "target") for split, part in parts.items()}
    typed = all(part.typed for part in parts["train"])
    known, names = columns.classes_of(labels["train"], columns.label_names(parts["train"], target), typed)
    targets = {split: columns.encode_labels(found, known) for split, found in labels.items()}
    if "validation" not in inputs:
        kept, held = _hold_out(len(inputs["train"]), task.validation)
        inputs |= {"train": inputs["train"].take(kept), "validation": inputs["train"].take(held)}
        targets |= {"train": targets["train"][kept], "validation": targets["train"][held]}
    arrays = {f"{split}.targets": found for split, found in targets.items()}
    if textual:
        converted, sizes, vocabulary = _sequences(task, inputs, len(names))
        return Material(sizes, arrays | converted, origin, names, vocabulary)
    converted, sizes = _pixels(task, inputs, len(names))
    return Material(sizes, arrays | converted, origin, names)


def _hold_out(count: int, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows kept for training and rows held out, at random: the end of a file may hold one class only."""
    held = max(1, round(count * share))
    order = np.random.default_rng(SPLIT_SEED).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])


def _pixels(task: TaskConfig, inputs: dict[str, Column], outputs: int) -> tuple[dict[str, NDArray], Sizes]:
    train = images.decode(inputs["train"])
    decoded = {"train": train} | {
        split: images.decode(found, train.shape[1:]) for split, found in inputs.items() if split != "train"
    }
    arrays: dict[str, NDArray] = {}
    mean, std = images.moments(train)
    channels, height, width = train.shape[1:]
    if task.view == "images":
        arrays |= {"mean": mean[:, None, None], "std": std[:, None, None]}
        arrays |= {f"{split}.inputs": found for split, found in decoded.items()}
        return arrays, Sizes("images", train.shape[1:], outputs)
    if task.view == "rows":
        steps, features = height, width * channels
    else:
        steps, features = height * width, channels
    arrays |= {"mean": np.resize(mean, features), "std": np.resize(std, features)}
    order = np.arange(steps)
    if task.view == "permuted_pixels":
        arrays["permutation"] = order = images.permutation(steps)
    kept = order[: _window(task, steps)]
    for split, found in decoded.items():
        sequence = found.transpose(0, 2, 3, 1).reshape(len(found), steps, features)
        arrays[f"{split}.inputs"] = np.ascontiguousarray(sequence[:, kept])
    return arrays, Sizes("features", (len(kept), features), outputs, positions=len(kept))


def _window(task: TaskConfig, steps: int) -> int:
    if task.max_length is None or steps <= task.max_length:
        return steps
    if not task.truncate:
        raise InputError(
            f"task.max_length={task.max_length}, but every image is a sequence of {steps} time steps; set "
            f"task.max_length={steps}, or task.truncate=true to cut them"
        )
    return task.max_length


def _sequences(
    task: TaskConfig, inputs: dict[str, Column], outputs: int
) -> tuple[dict[str, NDArray], Sizes, text.Vocabulary]:
    vocabulary, encode = _fit(task, inputs["train"].values)
    encoded = {split: _encode(task, found, encode) for split, found in inputs.items()}
    longest = max(len(ids) for sequences in encoded.values() for ids in sequences)
    arrays: dict[str, NDArray] = {}
    for split, sequences in encoded.items():
        arrays[f"{split}.lengths"] = np.array([len(ids) for ids in sequences], np.int64)
        padded = np.zeros((len(sequences), longest), _compact(len(vocabulary)))
        for row, ids in zip(padded, sequences, strict=True):
            row[: len(ids)] = ids
        arrays[f"{split}.inputs"] = padded
    lengths = np.sort(arrays["train.lengths"])[::-1]
    positions = int(lengths[min(REACHED_BY, len(lengths)) - 1])
    sizes = Sizes("tokens", (longest,), outputs, vocabulary=len(vocabulary), positions=positions)
    return arrays, sizes, vocabulary


def _encode(task: TaskConfig, column: Column, encode: text.Encoder) -> list[text.Ids]:
    sequences = [encode(value) for value in column.values]
    for i, ids in enumerate(sequences):
        if not len(ids):
            column.refuse(i, "the text holds no tokens")
        if task.max_length is not None and len(ids) > task.max_length and not task.truncate:
            column.refuse(
                i,
                f"{len(ids)} {task.view}, but task.max_length={task.max_length}; set "
                f"task.max_length={max(map(len, sequences))}, or task.truncate=true to cut longer ones",
            )
    return [ids[: task.max_length] for ids in sequences]


def _fit(task: TaskConfig, texts: Sequence[str]) -> tuple[text.Vocabulary, text.Encoder]:
    if task.view == "characters":
        return text.fit_characters(texts)
    if task.view == "words":
        split = str.split if task.goal == "language_modelling" else text.split_words
        return text.fit_words(texts, split, task.vocabulary)
    assert task.vocabulary is not None
    return text.fit_subwords(texts, task.vocabulary)


def _compact(ids: int) -> type[np.integer]:
    """The smallest integer type for that many token ids that torch gathers from."""
    return np.uint8 if ids <= 2**8 else np.int16 if ids <= 2**15 else np.int32


def _language(task: TaskConfig, parts: source.Parts, origin: str) -> Material:
    """One stream of tokens a split: an end token, then each document closed by one."""
    documents = {
        split: list(columns.texts(columns.column(part, task.input, "input")).values) for split, part in parts.items()
    }
    if "validation" not in documents:
        documents["train"], documents["validation"] = _cut_end(documents["train"], task.validation)
    vocabulary, encode = _fit(task, documents["train"])
    end = np.array([text.END], np.int32)
    arrays: dict[str, NDArray] = {}
    for split, found in documents.items():
        pieces = [end, *(piece for document in found for piece in (encode(document), end))]
        arrays[f"{split}.tokens"] = np.concatenate(pieces).astype(_compact(len(vocabulary)))
    window = task.max_length
    assert window is not None
    if len(arrays["train.tokens"]) <= window:
        raise InputError(
            f"the training text has {len(arrays['train.tokens']) - 1} tokens, fewer than one window of "
            f"task.max_length={window}"
        )
    characters = {split: sum(len(document) + 1 for document in found) for split, found in documents.items()}
    ids = len(vocabulary)
    sizes = Sizes("tokens", (window,), ids, vocabulary=ids, positions=window, causal=True)
    return Material(sizes, arrays, origin, vocabulary=vocabulary, characters=characters)


def _cut_end(documents: list[str], share: float) -> tuple[list[str], list[str]]:
    """The documents up to the last `share` of all characters, and the rest; one may be cut in two."""
    left = round(sum(map(len, documents)) * (1 - share))
    for i, document in enumerate(documents):
        if left < len(document):
            return [*documents[:i], document[:left]], [document[left:], *documents[i + 1 :]]
        left -= len(document)
    raise InputError("the training text is too short to hold out a validation text from it")
