"""One column of one split, checked: present, without gaps, of the right type. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError

if TYPE_CHECKING:
    from normlab.data.source import Part

_WHOLE = re.compile(r"-?(0|[1-9]\d*)")


@dataclass(frozen=True)
class Column:
    """The values of one column, each of which knows the place a user can find it at."""

    name: str
    values: Sequence[Any]
    rows: NDArray[np.int64]  # where a value stands among all rows of the parts
    parts: tuple[tuple[str, int], ...]  # name and number of rows of each file

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: NDArray[np.int64]) -> Column:
        """The values at `index`, with their places."""
        return Column(self.name, [self.values[i] for i in index], self.rows[index], self.parts)

    def refuse(self, index: int, reason: str) -> NoReturn:
        """Says where a value stands and what is wrong with it.

        Raises:
            InputError: always.
        """
        starts = np.cumsum([0] + [count for _, count in self.parts])
        part = int(np.searchsorted(starts, self.rows[index], side="right")) - 1
        name, row = self.parts[part][0], self.rows[index] - starts[part] + 1
        raise InputError(f"{name}, row {row}, column {self.name!r}: {reason}")


def column(parts: list[Part], name: str, key: str) -> Column:
    """The column that `task.<key>` names, from all files of a split.

    Raises:
        InputError: it is not there, or a value is missing.
    """
    values: list[Any] = []
    for part in parts:
        if name not in part.rows.column_names:
            raise InputError(
                f"{part.name} has no column {name!r}; it has: {', '.join(part.rows.column_names)} "
                f"(task.{key} says which to use)"
            )
        values += part.rows.data.column(name).to_pylist()
    sizes = tuple((part.name, len(part.rows)) for part in parts)
    found = Column(name, values, np.arange(len(values)), sizes)
    empty = [None] if all(part.typed for part in parts) else [None, ""]
    missing = next((i for i, value in enumerate(values) if value in empty), None)
    if missing is not None:
        found.refuse(missing, "the value is missing")
    return found


def texts(found: Column) -> Column:
    """The same column, after a check that it holds text."""
    for i, value in enumerate(found.values):
        if not isinstance(value, str):
            found.refuse(i, f"text expected, found {type(value).__name__} {value!r:.50}")
    return found


def label_names(parts: list[Part], name: str) -> tuple[str, ...] | None:
    """Class names, where the file format itself records them beside integer labels."""
    feature = parts[0].rows.features.get(name)
    return tuple(getattr(feature, "names", None) or ()) or None


def classes_of(labels: Column, names: tuple[str, ...] | None, typed: bool) -> tuple[list[Any], tuple[str, ...]]:
    """The distinct labels of the training split in the order of their class numbers, and the classes' names.

    Labels are class numbers 0, 1, …, or names (text). In CSV, where everything is text, labels that are all
    digits without leading zeros are class numbers.

    Raises:
        InputError: a label is neither, or there is only one class.
    """
    if names is not None:
        found: list[Any] = list(range(len(names)))
    elif _are_names(labels, typed):
        found = sorted(set(labels.values))
    else:
        found = list(range(len(set(_numbers(labels)))))
    if len(found) < 2:
        labels.refuse(0, f"every training example has the label {labels.values[0]!r}; at least two classes are needed")
    return found, names or tuple(map(str, found))


def encode_labels(labels: Column, classes: list[Any]) -> NDArray[np.int64]:
    """Labels → class numbers.

    Raises:
        InputError: a label is not one of the training split's classes.
    """
    numbered = isinstance(classes[0], int)
    values = _numbers(labels) if numbered else labels.values
    number = {label: i for i, label in enumerate(classes)}
    for i, value in enumerate(values):
        if value not in number:
            known = f"class numbers are 0 to {len(classes) - 1}" if numbered else f"known are {_some(classes)}"
            labels.refuse(i, f"label {value!r} is out of range; {known} (by the training split)")
    return np.array([number[value] for value in values], np.int64)


def _some(classes: list[str]) -> str:
    return ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")


def _are_names(labels: Column, typed: bool) -> bool:
    if typed or not isinstance(labels.values[0], str):
        return isinstance(labels.values[0], str)
    if _WHOLE.fullmatch(labels.values[0]) is None:
        return True
    return all(value.isdigit() for value in labels.values) and not all(map(_WHOLE.fullmatch, labels.values))


def _numbers(labels: Column) -> list[int]:
    numbers = []
    for i, value in enumerate(labels.values):
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            labels.refuse(i, f"label {value!r} is not a whole number")
        numbers.append(value)
    return numbers
