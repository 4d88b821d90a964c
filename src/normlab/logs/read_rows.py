"""Seeds and values of rows, as numbers; other values are refused, with their place."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.config.schema import InputError
from normlab.logs.run import Runs, number_of

if TYPE_CHECKING:
    from pandas import Series


class Places:
    """Where the rows of all FILEs together were read."""

    def __init__(self, sources: Sequence[Runs]) -> None:
        self.sources = sources
        self.starts = np.cumsum([0, *(len(source.facts) for source in sources)])

    def __getitem__(self, row: int | np.integer) -> str:
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.sources[index].place(int(row - self.starts[index]))


def read_seeds(column: list[Any], name: str, places: Places, used: np.ndarray) -> np.ndarray:
    """Whole numbers; other rows have 0.

    Args:
        column: the values of all FILEs.
        used: bool [rows], those that are compared; what the others hold doesn't matter.

    Raises:
        InputError: a value is not a whole number.
    """
    kinds = set(map(type, column))
    with suppress(ValueError, OverflowError):  # of a value that is named below
        if used.all() and (kinds == {int} or (kinds == {str} and all(map(str.isdecimal, column)))):
            return np.array(list(map(int, column)), dtype=np.int64)
    found = np.zeros(len(column), dtype=np.int64)
    for row in np.flatnonzero(used).tolist():
        value = column[row]
        try:
            number = float(value) if isinstance(value, str) and "." in value else value  # the text 3.0 is seed 3
            whole = int(number)
            if isinstance(number, bool | np.bool_) or (not isinstance(number, str) and whole != number):
                raise ValueError
            found[row] = whole
        except (TypeError, ValueError, OverflowError):
            shown = "an empty field" if value is None else repr(str(value)[:40])
            raise InputError(f"column {name}: {shown} is not a seed ({places[row]})") from None
    return found


def read_values(
    columns: Sequence[Series], metric: str, places: Places, used: np.ndarray, *, failed: bool
) -> np.ndarray:
    """As numbers; nan: the run failed, or isn't used.

    Args:
        columns: one for each FILE.
        used: bool [rows of all FILEs].
        failed: runs that never logged the metric, or in which it is infinite, failed.

    Raises:
        InputError: a value is not a number, or a run has none.
    """
    numbers, row = [], 0
    for column in columns:
        if column.dtype.kind == "f":  # nothing else can stand in it
            numbers.append(column.to_numpy(dtype=np.float64, na_value=np.nan))
        else:
            every = zip(used[row : row + len(column)].tolist(), enumerate(column.tolist(), row), strict=True)
            numbers.append(np.array([_number(v, metric, places, i) if counts else np.nan for counts, (i, v) in every]))
        if column.dtype == object and not failed:
            here = used[row : row + len(column)]
            never = np.array([value is None for value in column.tolist()])
            if never[here].any() and not never[here].all() and _from_logs(places, row):
                place = places[row + int((never & here).argmax())]
                raise InputError(
                    f"{place} never logged {metric}: leave the run out, or count such runs as failed with --failed"
                )
        row += len(column)
    found = np.where(used, np.concatenate(numbers), np.nan)
    infinite = np.isinf(found)
    if infinite.any() and not failed:
        raise InputError(
            f"column {metric}: {found[infinite][0]} is infinite ({places[int(infinite.argmax())]}), and would make the "
            "mean infinite: count such runs as failed with --failed"
        )
    return np.where(infinite, np.nan, found)


def _from_logs(places: Places, row: int) -> bool:
    index = int(np.searchsorted(places.starts, row, side="right")) - 1
    return places.sources[index].key != "column"


def _number(value: object, metric: str, places: Places, row: int) -> float:
    if value is None or value is np.nan or type(value).__name__ in ("NAType", "NaTType"):
        return float("nan")
    number: float | None = None
    if isinstance(value, str):
        try:
            number = None if "_" in value else float(value)
        except ValueError:
            number = None
    elif isinstance(value, Decimal | np.integer | np.floating):
        number = float(value)
    else:
        number = number_of(value)
    if number is None:
        point = " with a decimal point" if isinstance(value, str) and value[:1].isdigit() and "," in value else ""
        raise InputError(f"column {metric}: {str(value)[:40]!r} is not a number{point} ({places[row]})")
    return number
