"""Numbers from cells: features of a table, targets of a regression, channels of a recording. Imports no torch."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError
from normlab.views.columns import Column

Numbers = NDArray[np.float64]

_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*", re.ASCII)
EXACT = 2.0**53  # whole numbers up to here are exact in float64
_GAPS = ("", "nan")  # as texts, in lower case
FILLED = "missing numbers, replaced by the mean of training"
HINT = ": task.missing=mean replaces missing numbers by the mean of training"


def number(value: Any) -> float | None:
    """The number in a cell: NaN for a gap, None for what is not a number. True is 1 and False is 0."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        if _NUMBER.fullmatch(value):
            return float(value)
        return math.nan if value.strip().lower() in _GAPS else None
    if isinstance(value, bool | int | float) or hasattr(value, "as_tuple"):  # a Decimal of Parquet
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return None


def decode(column: Column, *, gaps: bool = False, hint: str = "") -> Numbers:
    """A column of numbers, float64 [N].

    Args:
        column: text or numbers.
        gaps: missing numbers become NaN instead of being refused.
        hint: what can be done about missing numbers.

    Raises:
        InputError: a value is not a number, is missing or is infinite, or two different ones would become the same.
    """
    found = np.empty(len(column))
    for i, value in enumerate(column.values):
        read = number(value)
        if read is None:
            column.refuse(i, f"a number expected, found {value!r:.50}{_comma(value)}")
        found[i] = read
    wrong = np.isinf(found) if gaps else ~np.isfinite(found)
    if wrong.any():
        where = int(wrong.argmax())
        how = "the number is infinite" if np.isinf(found[where]) else f"the value is missing (or NaN){hint}"
        column.refuse(where, how)
    _check_digits(column, found)
    return found


def _check_digits(column: Column, found: Numbers) -> None:
    """Refuse long whole numbers, such as identifiers, that a float can't tell apart."""
    seen: dict[float, Decimal] = {}
    for i in np.flatnonzero(np.abs(found) > EXACT).tolist():
        exact = Decimal(column.values[i])
        other = seen.setdefault(float(found[i]), exact)
        if exact != other:
            column.refuse(
                i,
                f"{exact:f} and {other:f} have too many digits: as a 64-bit number both are {found[i]:.0f}. Subtract a "
                "constant from the column if the difference matters, or leave the column out",
            )


def table(columns: list[Column], *, gaps: bool = False) -> Numbers:
    """Features, float64 [N, F], from a column each.

    Raises:
        InputError: as `decode`; columns that hold text are named together, with what to do.
    """
    texts = [(column, row) for column in columns if (row := _first_text(column)) is not None]
    if texts:
        column, row = texts[0]
        names = ", ".join(repr(column.name) for column, _ in texts)
        shown = ",".join(column.name for column, _ in texts)
        count = sum(number(value) is not None for value in column.values)
        gap = " (if it stands for a missing number, leave the field empty)" if 2 * count > len(column) else ""
        column.refuse(
            row,
            f"{column.values[row]!r:.50} is not a number{_comma(column.values[row])}{gap}. Of the features, "
            f"{names} {'hold' if len(texts) > 1 else 'holds'} text: encode each category as a number (or as one "
            f"column of 0 and 1 for each), or leave {'them' if len(texts) > 1 else 'it'} out with task.omit=[{shown}]",
        )
    return np.stack([decode(column, gaps=gaps, hint=HINT) for column in columns], 1)


def _first_text(column: Column) -> int | None:
    return next((i for i, value in enumerate(column.values) if number(value) is None), None)


def _comma(value: Any) -> str:
    """A hint for numbers with a decimal comma."""
    comma = isinstance(value, str) and _NUMBER.fullmatch(value.replace(",", ".", 1)) is not None
    return " (numbers need a decimal point)" if comma else ""


def moments(values: Numbers) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of each column [F] over all rows but gaps; 1 instead of the deviation of a constant.

    A number that is too large or too small to be squared has no deviation in double precision: `check_spread` names it.
    """
    gaps = bool(np.isnan(values).any())
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        mean, std = (np.nanmean(values, 0), np.nanstd(values, 0)) if gaps else (values.mean(0), values.std(0))
    constant = np.nanmin(values, 0) == np.nanmax(values, 0)  # whose deviation may be a rounding error
    return mean, np.where(constant, 1.0, std)


def check_spread(names: Sequence[str], values: Numbers, std: Numbers) -> None:
    """Check that every column can be standardised.

    Raises:
        InputError: a deviation is infinite or 0, by which all its numbers would become 0 or infinite.
    """
    for name, column, deviation in zip(names, values.T, std, strict=True):
        if not (0 < deviation < math.inf):
            low, high = np.nanmin(column), np.nanmax(column)
            raise InputError(
                f"{name} goes from {low:g} to {high:g} in training, whose standard deviation can't be computed: scale "
                "its values"
            )


def filled(values: NDArray[Any], mean: NDArray[Any], done: Counter[str]) -> NDArray[Any]:
    """The values with the column's mean in place of NaN; the gaps are counted in `done`."""
    gaps = np.isnan(values)
    if gaps.any():
        done[FILLED] += int(gaps.sum())
        values = np.where(gaps, mean, values)
    return values


def check_filled(columns: list[Column], values: Numbers) -> None:
    """Check that every column of the training split has a number.

    Raises:
        InputError: one is empty.
    """
    for column, feature in zip(columns, values.T, strict=True):
        if np.isnan(feature).all():
            raise InputError(f"column {column.name!r} has no number in the training split: leave it out with task.omit")
