"""Examples that a user has in Python, as arrays: of pairs, data sets and loaders. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.config.errors import InputError

Pair = tuple[NDArray[Any], NDArray[Any]]
_TWICE = (
    64  # examples that are read twice, to see whether they are the same; an augmentation may leave most as they are
)
_WHOLE = ("SequentialSampler", "RandomSampler")  # which draw each example of a data set once


def is_array(value: Any) -> bool:
    """Of numpy or torch, or a column of pandas."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def is_dataset(value: Any) -> bool:
    """Of torch, or a loader of one."""
    if is_array(value) or isinstance(value, Mapping | str | bytes | tuple | list):
        return False
    return hasattr(value, "dataset") or hasattr(value, "__getitem__")


def pair_of(split: str, data: Any) -> Pair:
    """Inputs and targets of one split.

    Raises:
        InputError: it is something else, draws at random, or is not what a loader would train on.
    """
    if isinstance(data, tuple | list) and len(data) == 2 and all(map(is_array, data)):
        pair = (_array(data[0]), _array(data[1]))
    elif is_dataset(data):
        pair = _read(split, data)
    else:
        raise InputError(
            f"data: {type(data).__name__} can't be read: give a task such as 'mnist1d', a path, a pair (inputs, "
            "targets) of arrays, a table of pandas with the target as one of its columns, a data set or data loader of "
            "torch, two of them, or a LightningDataModule"
        )
    inputs, targets = pair
    targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
    counts = [len(array) if array.ndim else 0 for array in pair]
    if counts[0] != counts[1] or not counts[0]:
        raise InputError(f"data: {split} has {counts[0]} inputs and {counts[1]} targets")
    for array in (inputs, targets):
        _check_type(split, array)
    if targets.ndim != 1 and not (targets.ndim == 3 and inputs.ndim == 4):
        raise InputError(
            f"data: targets of shape {list(targets.shape)}: each example has one label or number, or a mask [H, W] of "
            "an image [C, H, W]; for others, train a Lightning project, with project=..."
        )
    return inputs, targets


def _array(value: Any) -> NDArray[Any]:
    """Of a tensor, an array, an image of Pillow or a number."""
    if hasattr(value, "detach"):
        if "strided" not in str(value.layout):
            raise InputError("data: a sparse tensor can't be written: give tensor.to_dense()")
        value = value.detach().cpu()
        value = value.numpy() if "bfloat16" not in str(value.dtype) else value.float().numpy()
    if np.ma.is_masked(value):
        raise InputError("data: an array is masked, and what is below its mask would count: fill it, as array.filled()")
    array = np.asarray(value)
    if array.dtype.byteorder not in "=|":
        array = array.astype(array.dtype.newbyteorder("="))
    if hasattr(value, "getbands") and array.ndim == 3:  # Pillow's colours come last
        array = array.transpose(2, 0, 1)
    return array[None] if hasattr(value, "getbands") and array.ndim == 2 else array


def _read(split: str, data: Any) -> Pair:
    """Each example of a data set once."""
    source: Any = getattr(data, "dataset", None) if hasattr(data, "collate_fn") else data
    collate = getattr(getattr(data, "collate_fn", None), "__name__", "default_collate")
    if collate != "default_collate":
        raise InputError(
            f"data: the {split} loader has a collate_fn of its own: train a Lightning project, project=..."
        )
    sampler = type(getattr(data, "sampler", None)).__name__ if source is not data else _WHOLE[0]
    drawn = getattr(getattr(data, "sampler", None), "replacement", False) or _draws_fewer(data)
    batches = type(getattr(data, "batch_sampler", None)).__name__
    if sampler not in _WHOLE or drawn or batches not in ("BatchSampler", "NoneType"):
        named = sampler if sampler not in _WHOLE or drawn else batches
        raise InputError(
            f"data: the {split} loader draws its examples by a {named} of its own, and each example of a data set is "
            "used once in each epoch: give torch.utils.data.Subset(dataset, indices) for a part of it, or train a "
            "Lightning project, project=..."
        )
    if not hasattr(source, "__getitem__") or not hasattr(source, "__len__"):
        raise InputError(f"data: {split} is a stream without a length: save it to a file, or train a Lightning project")
    examples = [_example(split, source[index]) for index in range(len(source))]
    if not examples:
        raise InputError(f"data: {split} is empty")
    for index in np.unique(np.linspace(0, len(examples) - 1, _TWICE).astype(int)).tolist():
        inputs, target = examples[index]
        again = _example(split, source[index])
        if not (_same(inputs, again[0]) and _same(target, again[1])):
            raise InputError(
                f"data: {split} gives another example {index} each time, so it draws at random, and one copy of it "
                "would not be the same data: leave augmentation out (task.augment=true shifts and mirrors images), or "
                "train a Lightning project, with project=..."
            )
    shapes = {inputs.shape for inputs, _ in examples}
    if len(shapes) > 1:
        raise InputError(
            f"data: examples of {split} have different shapes, such as {sorted(shapes)[:2]}: files can have them, "
            "images with task=image_files and series with task=series_files"
        )
    return np.stack([inputs for inputs, _ in examples]), np.stack([target for _, target in examples])


def _example(split: str, item: Any) -> Pair:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise InputError(f"data: an example of {split} is {type(item).__name__}: give pairs (input, target)")
    return _array(item[0]), _array(item[1])


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """NaN equals itself here."""
    if one.dtype.kind == "f" and one.dtype == other.dtype:
        return np.array_equal(one, other, equal_nan=True)
    return np.array_equal(one, other)


def _draws_fewer(loader: Any) -> bool:
    """Does a loader's sampler draw another number of examples than there are?"""
    sampler: Any = getattr(loader, "sampler", None)
    return hasattr(sampler, "__len__") and len(sampler) != len(loader.dataset)


def _check_type(split: str, array: NDArray[Any]) -> None:
    """Refuse what no file can hold as it is."""
    if array.dtype.kind == "O":
        kinds = sorted({type(value).__name__ for value in array.flat})
        if len(kinds) > 1:
            raise InputError(f"data: {split} has an array of mixed types ({', '.join(kinds[:4])}): give one of them")
    elif array.dtype.kind not in "biufUS" or (array.dtype.itemsize > 8 and array.dtype.kind == "f"):
        raise InputError(f"data: {split} has values of type {array.dtype}: give real numbers, or text as labels")
