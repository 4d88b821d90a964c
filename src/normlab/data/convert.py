"""The inputs of labelled examples, as arrays: images, text, series and tables. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.data.fitted import Fitted, encoder, fit_text
from normlab.data.material import Builder
from normlab.views import images, numbers, sequences, series, text
from normlab.views.columns import Column
from normlab.views.images import Pixels, Size
from normlab.views.sequences import Arrays

Inputs = dict[str, list[Column]]  # split → the columns of the input
Converter = Callable[[Builder, Inputs, Fitted], tuple[Sizes, Fitted, Arrays]]


def converter(content: str) -> Converter:
    """The function that converts inputs of this content: images, series, text or a table."""
    return {"images": _pixels, "series": _series, "text": _tokens, "table": _table}[content]


def read_images(
    builder: Builder, images_of: dict[str, Column], fitted: Fitted
) -> tuple[Fitted, dict[str, Pixels], dict[str, list[Size]]]:
    """That size and range to which the training split is fitted, the images of each split, and the sizes they had."""
    task, known = builder.task, builder.known
    shape, values = fitted.shape, fitted.values
    decoded: dict[str, Pixels] = {}
    sizes: dict[str, list[Size]] = {}
    for split, found in images_of.items():
        with builder.of(split):
            read = images.read(found, builder.done)
            values = values or images.value_range(read)
            if shape is None:
                size, why = images.common_size(read, task.size)
                shape = (max(map(len, read)), *size)
                fitted = replace(fitted, resized=why is not None)
                builder.said += [why] if why else []
            sizes[split] = [(pixels.shape[1], pixels.shape[2]) for pixels in read]
            if fitted.resized:
                read = images.resized(read, (shape[1], shape[2]), builder.done)
            decoded[split] = images.packed(found, read, shape, values, builder.done)
    return fitted if known else replace(fitted, shape=shape, values=values), decoded, sizes


def _pixels(builder: Builder, inputs: Inputs, fitted: Fitted) -> tuple[Sizes, Fitted, Arrays]:
    task, outputs = builder.task, fitted.outputs
    fitted, decoded, _ = read_images(builder, {split: found for split, (found,) in inputs.items()}, fitted)
    if builder.known is None:
        fitted = fit_pixels(task, fitted, decoded["train"])
    assert fitted.shape is not None
    channels, height, width = fitted.shape
    if task.view == "images":
        sizes = Sizes("images", fitted.shape, outputs)
        return sizes, fitted, {f"{split}.inputs": found for split, found in decoded.items()}
    steps, features = (height, width * channels) if task.view == "rows" else (height * width, channels)
    kept = fitted.arrays.get("permutation", np.arange(steps))[: _window(task, steps)]
    arrays: Arrays = {}
    for split, pixels in decoded.items():
        sequence = pixels.transpose(0, 2, 3, 1).reshape(len(pixels), steps, features)
        arrays[f"{split}.inputs"] = np.ascontiguousarray(sequence[:, kept])
    return Sizes("features", (len(kept), features), outputs, positions=len(kept)), fitted, arrays


def fit_pixels(task: TaskConfig, fitted: Fitted, train: Pixels) -> Fitted:
    """What standardises the pixels of the training split."""
    mean, std = images.moments(train)
    channels, height, width = train.shape[1:]
    if task.view == "images":
        return fitted.with_arrays(mean=mean[:, None, None], std=std[:, None, None])
    features = width * channels if task.view == "rows" else channels
    arrays: Arrays = {"mean": np.resize(mean, features), "std": np.resize(std, features)}
    if task.view == "permuted_pixels":
        arrays["permutation"] = images.permutation(height * width)
    return fitted.with_arrays(**arrays)


def _window(task: TaskConfig, steps: int) -> int:
    if task.max_length is None or steps <= task.max_length:
        return steps
    if not task.truncate:
        raise InputError(
            f"task.max_length={task.max_length}, but every image is a sequence of {steps} time steps; set "
            f"task.max_length={steps}, or task.truncate=true to cut them"
        )
    return task.max_length


def _tokens(builder: Builder, inputs: Inputs, fitted: Fitted) -> tuple[Sizes, Fitted, Arrays]:
    task = builder.task
    if builder.known is None:
        vocabulary, tokenizer = fit_text(task, inputs["train"][0].values)
        fitted = replace(fitted, vocabulary=vocabulary, tokenizer=tokenizer)
    assert fitted.vocabulary is not None
    ids, encode = len(fitted.vocabulary), encoder(task, fitted.vocabulary, fitted.tokenizer)
    encoded: dict[str, list[text.Ids]] = {}
    for split, (found,) in inputs.items():
        with builder.of(split):
            encoded[split] = _encode(task, found, encode)
    arrays, longest, positions = sequences.packed(encoded, text.compact(ids))
    sizes = Sizes("tokens", (longest,), fitted.outputs, vocabulary=ids, positions=positions)
    return sizes, fitted, arrays


def _encode(task: TaskConfig, column: Column, encode: text.Encoder) -> list[text.Ids]:
    encoded = [encode(value) for value in column.values]
    for i, ids in enumerate(encoded):
        if not len(ids):
            column.refuse(i, "the text contains no tokens")
    return sequences.limited(task, column, encoded, task.view)


def _series(builder: Builder, inputs: Inputs, fitted: Fitted) -> tuple[Sizes, Fitted, Arrays]:
    task = builder.task
    features = len(fitted.arrays["mean"]) if builder.known else None
    decoder = series.Decoder(gaps=task.missing == "mean", features=features, channels=fitted.columns)
    decoded: dict[str, list[series.Series]] = {}
    for split, found in inputs.items():
        with builder.of(split):
            decoded[split] = sequences.limited(task, found[0], decoder.decode(found), "time steps")
    if builder.known is None:
        decoder.check_rounding()
        mean, std = series.moments(decoded["train"])
        if decoder.channels:
            count, more = len(decoder.channels), ", …" * (len(decoder.channels) > 10)
            names = ", ".join(decoder.channels[:10]) + more
            builder.said.append(f"{count} channel{'s' * (count > 1)} of each recording: {names}")
        fitted = replace(fitted, columns=decoder.channels).with_arrays(mean=mean, std=std)
    fill = fitted.arrays["mean"]  # which becomes 0 when it is standardised
    if task.missing == "mean":
        decoded = {split: series.filled(found, fill, builder.done) for split, found in decoded.items()}
    arrays, longest, positions = sequences.packed(decoded, np.float32, fill)
    return Sizes("features", (longest, len(fill)), fitted.outputs, positions=positions), fitted, arrays


def _table(builder: Builder, inputs: Inputs, fitted: Fitted) -> tuple[Sizes, Fitted, Arrays]:
    gaps = builder.task.missing == "mean"
    decoded: dict[str, numbers.Numbers] = {}
    for split, found in inputs.items():
        with builder.of(split):
            decoded[split] = numbers.table(found, gaps=gaps)
    if builder.known is None:
        train = decoded["train"]
        numbers.check_filled(inputs["train"], train)
        mean, std = numbers.moments(train)
        numbers.check_spread([f"column {column.name!r}" for column in inputs["train"]], train, std)
        constant = [column.name for column, values in zip(inputs["train"], train.T, strict=True) if _constant(values)]
        if len(constant) == len(inputs["train"]):
            raise InputError("no feature differs among the training rows, so there is nothing to learn from")
        if constant:
            builder.said.append(f"constant in training, so of no use: {', '.join(constant[:10])}")
        names = ", ".join(builder.names[:10]) + ", …" * (len(builder.names) > 10)
        builder.said.append(f"{len(builder.names)} feature{'s' * (len(builder.names) > 1)}: {names}")
        fitted = replace(fitted, columns=tuple(builder.names)).with_arrays(feature_mean=mean, feature_std=std)
    mean = fitted.arrays["feature_mean"]
    arrays: Arrays = {f"{s}.inputs": numbers.filled(values, mean, builder.done) for s, values in decoded.items()}
    return Sizes("table", mean.shape, fitted.outputs), fitted, arrays


def _constant(values: numbers.Numbers) -> bool:
    return bool(np.nanmin(values) == np.nanmax(values))
