"""What a training's validations say of it at any of its steps, from the rows that it logged. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from normlab.config.metrics import MAIN, higher_is_better

Row = Mapping[str, Any]


def validations_until(rows: Iterable[Row], step: int) -> list[Row]:
    """The validations up to the first one at that step or later; empty if there is none so late."""
    found = []
    for row in rows:
        if any(name.startswith("validation/") for name in row):
            found.append(row)
            if row["step"] >= step:
                return found
    return []


def result_of(validations: Sequence[Row], column: str) -> float | None:
    """What the summary's column would be if the run had ended with these validations; None if it is not a number.

    Args:
        column: of a summary: `validation/…` of the best validation, `last/…`, or `area/…` under the curve.
    """
    kind, _, metric = column.partition("/")
    name = f"validation/{metric}"
    if not validations or any(not _is_number(row.get(name)) for row in validations):
        return None
    if kind == "last":
        return float(validations[-1][name])
    if kind == "area":
        return _area(validations, name)
    return _of_best(validations, name) if kind == "validation" else None


def gives(column: str) -> bool:
    """Is it a column of the summary that the validations determine?"""
    return column.partition("/")[0] in ("validation", "last", "area")


def _of_best(validations: Sequence[Row], name: str) -> float | None:
    main = next((metric for metric in MAIN if _is_number(validations[0].get(f"validation/{metric}"))), None)
    if main is None or any(not _is_number(row.get(f"validation/{main}")) for row in validations):
        return None
    pick = max if higher_is_better(main) else min
    return float(pick(validations, key=lambda row: row[f"validation/{main}"])[name])


def _area(validations: Sequence[Row], name: str) -> float:
    """By trapezoids over the steps from the first to the last; of one validation its value."""
    if len(validations) == 1:
        return float(validations[0][name])
    pairs = pairwise((float(row["step"]), float(row[name])) for row in validations)
    whole = sum((s1 - s0) * (v0 + v1) / 2 for (s0, v0), (s1, v1) in pairs)
    return whole / (validations[-1]["step"] - validations[0]["step"])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
