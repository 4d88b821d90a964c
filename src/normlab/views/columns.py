"""One column of one split, checked: present, without gaps, of the right type. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError
from normlab.files.tables import Part
from normlab.views.text import normal

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_REAL = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Column:
    """The values of one column, each with the file and row where a user can find it."""

    name: str
    values: Sequence[Any]
    rows: NDArray[np.int64]  # row of each value, counted over all parts
    parts: tuple[tuple[str, int], ...]  # name and number of rows of each file

    def __len__(self) -> int:
        return len(self.values)

    def take(self, index: NDArray[np.int64]) -> Column:
        """The values at `index`, with their rows."""
        return replace(self, values=[self.values[i] for i in index], rows=self.rows[index])

    def place(self, index: int) -> tuple[str, int]:
        """The file of a value, and its row there, from 1."""
        starts = np.cumsum([0] + [count for _, count in self.parts])
        part = int(np.searchsorted(starts, self.rows[index], side="right")) - 1
        return self.parts[part][0], int(self.rows[index] - starts[part] + 1)

    def refuse(self, index: int, reason: str) -> NoReturn:
        """Report where a value is and what is wrong with it.

        Raises:
            InputError: always.
        """
        name, row = self.place(index)
        raise InputError(f"{name}, row {row}, column {self.name!r}: {reason}")


def column(parts: list[Part], name: str, *, gaps: bool = False) -> Column:
    """A column from all files of a split.

    Args:
        gaps: values may be missing.

    Raises:
        InputError: a value is missing.
    """
    values: list[Any] = []
    for part in parts:
        values += part.values[name]
    sizes = tuple((part.name, len(part)) for part in parts)
    found = Column(name, values, np.arange(len(values)), sizes)
    typed = all(part.typed for part in parts)
    missing = next((i for i, value in enumerate(values) if value is None or (not typed and value == "")), None)
    if missing is not None and not gaps:
        found.refuse(missing, "the value is missing")
    return found


def texts(found: Column) -> Column:
    """The same column in Unicode's normal form NFC, after a check that its values are text."""
    for i, value in enumerate(found.values):
        if not isinstance(value, str):
            found.refuse(i, f"text expected, found {type(value).__name__} {value!r:.50}")
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            found.refuse(i, "an unpaired surrogate, which is not a character")
    return replace(found, values=[normal(value) for value in found.values])


def groups(parts: list[Part], name: str) -> Column:
    """The column of groups, names in normal form; as text if some files have text and others numbers.

    Raises:
        InputError: a value is missing.
    """
    found = column(parts, name)
    gap = next((i for i, value in enumerate(found.values) if value != value), None)
    if gap is not None:
        found.refuse(gap, "the value is missing (or NaN), so that its group is not known")
    values = [normal(value) if isinstance(value, str) else value for value in found.values]
    mixed = len({isinstance(value, str) for value in values}) > 1
    return replace(found, values=[group_name(value) for value in values] if mixed else values)


def group_name(value: Any) -> str:
    """A group as text: the same for 1, 1.0 and the text 1."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def labels(parts: list[Part], name: str, known: tuple[str, ...] | None = None) -> Column:
    """The column of labels, names in normal form.

    Integer labels of files with class names are matched by name with `known`, or with the first file, because files may
    number classes of the same name differently.

    Raises:
        InputError: a value is missing, or a file names a class that isn't known.
    """
    found = column(parts, name)
    first = known or parts[0].names
    values: list[Any] = []
    for part in parts:
        same = first is None or part.names is None or part.names == first
        for value in part.values[name]:
            if not same and isinstance(value, int) and 0 <= value < len(part.names or ()):
                named = (part.names or ())[value]
                if named not in (first or ()):
                    found.refuse(len(values), f"label {named!r} is out of range; known are {_some(first or ())}")
                value = (first or ()).index(named)
            values.append(normal(value) if isinstance(value, str) else value)
    return replace(found, values=values)


def classes_of(found: Column, names: tuple[str, ...] | None, typed: bool) -> tuple[tuple[str, ...], bool]:
    """The names of the classes in the order of their numbers, and whether labels are these numbers.

    Labels are class numbers 0, 1, …, or names (text). In CSV, where everything is text, labels that are all
    digits without leading zeros are class numbers.

    Args:
        found: the labels of the training split.
        names: class names, if the file format records them along with integer labels.
        typed: the format distinguishes numbers from text.

    Raises:
        InputError: a label is neither, labels are real numbers, or there is only one class.
    """
    numbered = names is not None or not _are_names(found, typed)
    if numbered:
        classes = names or tuple(map(str, range(len(set(_numbers(found))))))
    else:
        _refuse_real(found)
        for i, value in enumerate(found.values):
            if not isinstance(value, str):
                found.refuse(i, f"label {value!r} is not text, unlike the others")
        classes = tuple(sorted(set(found.values)))
    if len(classes) < 2:
        found.refuse(
            0, f"every training example has the label {found.values[0]!r}; classification needs at least two classes"
        )
    return classes, numbered


def encode_labels(found: Column, classes: tuple[str, ...], numbered: bool) -> NDArray[np.int64]:
    """Labels → class numbers.

    Raises:
        InputError: a label is not one of the training split's classes.
    """
    values = _numbers(found) if numbered else found.values
    number: dict[Any, int] = {label: i for i, label in enumerate(range(len(classes)) if numbered else classes)}
    for i, value in enumerate(values):
        if value not in number:
            known = f"class numbers are 0 to {len(classes) - 1}" if numbered else f"known are {_some(classes)}"
            hint = f"; number them from 0, or name them: 'class {value}' is a name" if numbered else ""
            found.refuse(i, f"label {value!r} is out of range; {known} (by the training split){hint}")
    return np.array([number[value] for value in values], np.int64)


def _some(classes: Sequence[str]) -> str:
    return ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")


def _are_names(found: Column, typed: bool) -> bool:
    if typed or not isinstance(found.values[0], str):
        return isinstance(found.values[0], str)
    if _WHOLE.fullmatch(found.values[0]) is None:
        return True
    return all(str(value).isdigit() for value in found.values) and not all(map(_WHOLE.fullmatch, found.values))


def _refuse_real(found: Column) -> None:
    real = [isinstance(value, str) and _REAL.fullmatch(value) is not None for value in found.values]
    if any(real) and all(
        is_real or (isinstance(value, str) and _WHOLE.fullmatch(value))
        for is_real, value in zip(real, found.values, strict=True)
    ):
        first = real.index(True)
        found.refuse(
            first,
            f"label {found.values[first]!r} is a real number, not a class: task.goal=regression predicts numbers; a "
            "class name needs a letter, such as v1.5",
        )


def _numbers(found: Column) -> list[int]:
    numbers = []
    for i, value in enumerate(found.values):
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            found.refuse(i, f"label {value!r:.50} is not a whole number")
        numbers.append(value)
    return numbers
