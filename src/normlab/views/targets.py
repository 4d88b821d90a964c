"""Targets that are numbers, and whether a table's target is a number or a class. Imports no torch."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from normlab.config.schema import InputError
from normlab.views import numbers
from normlab.views.columns import Column
from normlab.views.doubts import FEW, check_number_like
from normlab.views.numbers import Numbers

_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.0*)?", re.ASCII)


def decode(found: Column) -> Numbers:
    """Targets of a regression, float64 [N].

    Raises:
        InputError: one is not a number.
    """
    wrong = next((i for i, value in enumerate(found.values) if numbers.number(value) is None), None)
    if wrong is not None:
        found.refuse(
            wrong,
            f"task.goal=regression needs numbers, found {found.values[wrong]!r:.50}; task.goal=classification "
            "reads the target as names of classes",
        )
    return numbers.decode(found)


def check_training(name: str, values: Numbers) -> None:
    """Check that the training targets differ.

    Raises:
        InputError: they are all alike.
    """
    if values.min() == values.max():
        raise InputError(
            f"every training row has the target {name!r} = {values[0]:g}: there is nothing to learn; "
            "choose another task.target"
        )


def check_evaluated(split: str, name: str, values: Numbers) -> None:
    """Check that R² is defined for a split that is evaluated.

    Raises:
        InputError: its targets are all alike.
    """
    if values.min() == values.max():
        rows = f"its only row has the target {values[0]:g}" if len(values) == 1 else f"all are {values[0]:g}"
        raise InputError(
            f"R² is not defined on the {split} split, whose targets {name!r} don't differ ({rows}): "
            f"{'hold out more rows with task.validation' if split == 'validation' else 'give more rows'}"
        )


def inferred(found: Column) -> tuple[str, str]:
    """The goal of a table by the targets of its training split, and a sentence about why.

    Text is classes. Numbers with fractions, or of more than `FEW` different values, are numbers to predict. Few
    different whole numbers could be either and are read as classes.

    Raises:
        InputError: it is text, and most of it numbers.
    """
    values = [numbers.number(value) for value in found.values]
    if any(value is None for value in values):
        check_number_like(found)
        return "classification", f"the target {found.name!r} is text: classification"
    known = numbers.decode(found)
    count = len(np.unique(known))
    if count <= FEW and bool((known == np.rint(known)).all()):
        return "classification", (
            f"the target {found.name!r} has {count} different whole numbers, which were read as classes: "
            "task.goal=regression predicts them as numbers"
        )
    return "regression", (
        f"the target {found.name!r} has {count} different numbers: regression (task.goal=classification makes "
        "each a class)"
    )


def as_names(found: Column) -> Column:
    """Whole numbers as integers, so that 1 and 1.0 are one class; everything else as it is."""
    return replace(found, values=[_whole(value) for value in found.values])


def numbered(found: Column) -> bool:
    """Are the labels class numbers 0, 1, … without a gap?"""
    seen = set(found.values)
    return all(isinstance(value, int) for value in seen) and seen == set(range(len(seen)))


def _whole(value: Any) -> Any:
    if isinstance(value, str) and not _WHOLE.fullmatch(value):  # 007 is a name
        return value
    read = numbers.number(value)
    return int(read) if read is not None and abs(read) < 2**53 and read == int(read) else value


def texts_of(found: Column) -> Column:
    """Labels as the names of classes."""
    return replace(found, values=[str(value) for value in found.values])
