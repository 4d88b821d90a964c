"""Time series to arrays: nested lists of numbers, arrays, a column per channel, or a file per recording.

Imports no torch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError
from normlab.files.part import is_index
from normlab.files.tables import columns_of, kind, read_table
from normlab.views import numbers
from normlab.views.columns import Column, column

Series = NDArray[np.float32]
Exact = NDArray[np.float64]  # a series before it is rounded


class Decoder:
    """Turns rows into series of one number of features.

    Args:
        gaps: missing numbers are allowed, as NaN.
        features: F of the training split; None: the first series sets it.
        channels: for recordings in files, the columns of the training split's; None: those of the first.
    """

    def __init__(self, *, gaps: bool, features: int | None = None, channels: tuple[str, ...] | None = None) -> None:
        self.gaps = gaps
        self.features = features
        self.channels = channels
        self._rounding: list[Exact] = []  # of each row [3, F]: least and greatest number, greatest rounding error

    def check_rounding(self) -> None:
        """Check that float32 is precise enough for each feature of the rows that were decoded.

        Raises:
            InputError: rounding moves a number by more than a hundredth of the feature's range, as with seconds since
                1970, or makes all of them equal.
        """
        rows = np.stack(self._rounding)
        low, high, error = np.fmin.reduce(rows[:, 0]), np.fmax.reduce(rows[:, 1]), np.fmax.reduce(rows[:, 2])
        lost = (low < high) & (error > 0.01 * (high - low))
        if lost.any():
            feature = int(lost.argmax())
            raise InputError(
                f"feature {feature + 1} of the series goes from {low[feature]} to {high[feature]}, and float32, in "
                f"which series are kept, moves its numbers by up to {error[feature]:.2g}: subtract its least value, or "
                "scale it"
            )

    def decode(self, columns: Sequence[Column]) -> list[Series]:
        """Each row as float32 [T, F]; T may differ.

        One column holds lists or arrays of T numbers (F = 1) or of T lists of F numbers, or names a CSV file with a
        column per channel and a row per time step. Several columns hold T numbers each, a column per channel.

        Raises:
            InputError: a value is not such a series, has another F, or has a number that float32 can't hold.
        """
        found: list[Series] = []
        for i in range(len(columns[0])):
            exact = self._row(columns, i)
            self.features = self.features or exact.shape[1]
            if exact.shape[1] != self.features:
                columns[0].refuse(
                    i, f"{exact.shape[1]} features per time step; the first training example has {self.features}"
                )
            series = exact.astype(np.float32)
            error = np.fmax.reduce(np.abs(exact - series))
            self._rounding.append(np.stack([np.fmin.reduce(exact), np.fmax.reduce(exact), error]))
            found.append(series)
        return found

    def _row(self, columns: Sequence[Column], index: int) -> Exact:
        first = columns[0].values[index]
        if len(columns) == 1 and isinstance(first, str) and kind(Path(columns[0].place(index)[0])) == "csv":
            return self._recording(columns[0], index)
        channels = [self._one(column, index) for column in columns]
        if len(channels) == 1:
            return channels[0]
        for named, channel in zip(columns, channels, strict=True):
            if channel.shape[1] > 1:
                named.refuse(index, "one number per time step expected, because task.input names several channels")
            if len(channel) != len(channels[0]):
                steps = f"{len(channel)} time steps, and channel {columns[0].name!r} has {len(channels[0])}"
                named.refuse(index, steps)
        return np.concatenate(channels, 1)

    def _one(self, column: Column, index: int) -> Exact:
        value = column.values[index]
        if not isinstance(value, list | np.ndarray):
            column.refuse(index, f"a list of numbers expected, found {type(value).__name__} {value!r:.50}")
        try:
            array = np.array(_with_nan(value) if self.gaps else value)
        except ValueError:  # numpy's words for lists of unequal lengths
            column.refuse(index, "its time steps have different numbers of features")
        if array.ndim > 2 or not array.size:
            column.refuse(index, "a time series needs at least one time step, each a number or a list of numbers")
        if array.dtype.kind not in "iuf":
            column.refuse(index, f"a time series must be numbers without gaps, found {value!r:.50}")
        return self._checked(column, index, array.reshape(len(array), -1))

    def _recording(self, found: Column, index: int) -> Exact:
        """The recording in the file that the value names, relative to its table."""
        path = recording(found, index)
        if not path.is_file() or kind(path) != "csv":
            found.refuse(
                index,
                f"a list of numbers expected, or the name of a CSV file of the recording; there is no file {path}",
            )
        self.channels = self.channels or tuple(name for name in columns_of(path) if not is_index(name))
        if not self.channels or any(numbers.number(name) is not None for name in self.channels):
            found.refuse(index, f"{path} has no header: its first row must name the channels")
        part = read_table(path, dict.fromkeys(self.channels, "input"))
        read = [column([part], name, gaps=True) for name in self.channels]
        values = np.stack([numbers.decode(each, gaps=self.gaps, hint=numbers.HINT) for each in read], 1)
        return self._checked(found, index, values)

    def _checked(self, column: Column, index: int, values: NDArray[Any]) -> Exact:
        with np.errstate(over="ignore"):
            series = values.astype(np.float32)
        wrong = np.isinf(series) if self.gaps else ~np.isfinite(series)
        if wrong.any():
            step, feature = (int(i) for i in np.argwhere(wrong)[0])
            where = f"step {step + 1}" + (f", feature {feature + 1}" if series.shape[1] > 1 else "")
            hint = numbers.HINT if np.isnan(series[step, feature]) else ""
            column.refuse(index, f"{where}: a number is infinite, not a number, or too large for float32{hint}")
        return values.astype(np.float64)


def recording(found: Column, index: int) -> Path:
    """The file that a value names."""
    return Path(found.place(index)[0]).parent / found.values[index]


def _with_nan(value: Any) -> Any:
    """Nested lists with NaN in place of None."""
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return np.nan if value is None else value


def moments(series: list[Series]) -> tuple[Series, Series]:
    """Mean and standard deviation of each feature [F] over all time steps but gaps; 1 instead of a deviation of 0.

    Raises:
        InputError: a feature has no number at all, or can't be standardised.
    """
    steps = np.concatenate(series).astype(np.float64)
    if (empty := np.isnan(steps).all(0)).any():
        raise InputError(f"feature {int(empty.argmax()) + 1} of the training series has no number at all")
    mean, std = numbers.moments(steps)
    narrow = std.astype(np.float32)
    names = [f"feature {place} of the series" for place in range(1, len(std) + 1)]
    numbers.check_spread(names, steps, narrow.astype(np.float64))
    return mean.astype(np.float32), narrow


def filled(series: list[Series], mean: Series, done: Counter[str]) -> list[Series]:
    """The series with each feature's training mean in place of NaN."""
    return [numbers.filled(each, mean, done) for each in series]
