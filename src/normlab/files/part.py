"""Rows of a file, and which columns of them are asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError

Asked = Mapping[str, str]  # column → the option that names it: `input`, `target` or `groups`


@dataclass(frozen=True)
class Part:
    """Rows of one file, or of one split on the hub.

    values  the requested columns
    typed   false for CSV, where everything is text and an empty field is a missing value
    names   class names, if the file format records them along with integer labels
    """

    name: str
    values: Mapping[str, Sequence[Any]]
    typed: bool = True
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


def is_index(name: str) -> bool:
    """Is it the number of the row, as pandas writes it, and so no feature?"""
    return not name.strip() or re.fullmatch(r"__index_level_\d+__|Unnamed: \d+(\.\d+)?", name) is not None


def column_missing(path: Path | str, name: str, asked: Asked, found: Sequence[str]) -> InputError:
    """The error for a column that a file does not have; it lists those that it has."""
    if not found:
        return InputError(f"{path} has no columns: it is empty, or its first line is")
    spaced = any(each != each.strip() for each in found[:10])
    has = ", ".join(map(repr, found[:10]) if spaced else found[:10]) + (
        f", … ({len(found)} in all)" if len(found) > 10 else ""
    )
    return InputError(
        f"{path} has no column {name!r}; it has: {has:.500} (set task.{asked[name]} to the column to use)"
    )


def check_columns(path: Path | str, asked: Asked, found: Sequence[str]) -> None:
    """Check that each requested column occurs exactly once.

    Raises:
        InputError: one is missing, or occurs twice.
    """
    for name in asked:
        if name not in found:
            raise column_missing(path, name, asked, found)
        if found.count(name) > 1:
            raise InputError(f"{path} has {found.count(name)} columns {name!r}: rename all but one")
