"""A run's main result: the validation value by which its best checkpoint was chosen, or what a probe measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from normlab.config.measures.base import Measure
from normlab.config.metrics import MAIN, higher_is_better


def main_value(summary: Mapping[str, Any], split: str = "validation") -> tuple[str, float] | None:
    """Name and value of the main metric; None if there is none, for example in a run that diverged at once."""
    for name in MAIN:
        value = summary.get(f"{split}/{name}")
        if isinstance(value, int | float):
            return name, float(value)
    return None


def shown_value(measure: Measure, summary: dict[str, Any]) -> tuple[str, float] | None:
    """Name and value of the main metric, or of the measure's declared headline."""
    return main_value(summary) or measure.main_value(summary)


def show_value(value: tuple[str, float]) -> str:
    """`bits per character 1.7600`."""
    return f"{value[0].replace('_', ' ')} {value[1]:.4f}"


def is_better(name: str, one: float, other: float) -> bool:
    """Is the first the better value of that metric?"""
    return one > other if higher_is_better(name) else one < other
