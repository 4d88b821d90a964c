"""Time series, given as nested lists of numbers, to arrays. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from normlab.views.columns import Column

Series = NDArray[np.float32]


def decode(column: Column, features: int | None = None) -> list[Series]:
    """Each value, a list of T numbers (F = 1) or of T lists of F numbers, as float32 [T, F]; T may differ.

    `features` is F of the training split; without it the first value sets F.

    Raises:
        InputError: a value is not such a list, has another F, or has a number that float32 can't hold.
    """
    found: list[Series] = []
    for i in range(len(column)):
        series = _decode_one(column, i)
        features = features or series.shape[1]
        if series.shape[1] != features:
            column.refuse(i, f"{series.shape[1]} features per time step; the first training example has {features}")
        found.append(series)
    return found


def _decode_one(column: Column, index: int) -> Series:
    value = column.values[index]
    if not isinstance(value, list):
        column.refuse(index, f"a list of numbers expected, found {type(value).__name__} {value!r:.50}")
    try:
        array = np.array(value)
    except ValueError:  # numpy's words for lists of unequal lengths
        column.refuse(index, "its time steps have different numbers of features")
    if array.ndim > 2 or not array.size:
        column.refuse(index, "a time series needs at least one time step, each a number or a list of numbers")
    if array.dtype.kind not in "iuf":
        column.refuse(index, f"a time series must be numbers without gaps, found {value!r:.50}")
    with np.errstate(over="ignore"):
        series = array.astype(np.float32).reshape(len(array), -1)
    if not np.isfinite(series).all():
        column.refuse(index, "a number is infinite, not a number, or too large for float32")
    return series


def moments(series: list[Series]) -> tuple[Series, Series]:
    """Mean and standard deviation of each feature [F] over all time steps; 1 instead of a deviation of 0."""
    steps = np.concatenate(series).astype(np.float64)
    mean, std = steps.mean(0).astype(np.float32), steps.std(0).astype(np.float32)
    constant = steps.min(0) == steps.max(0)  # whose deviation may be a rounding error
    return mean, np.where(constant | (std == 0), np.float32(1), std)
