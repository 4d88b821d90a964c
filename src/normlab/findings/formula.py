"""What a contrast compares: `layer - batch`, `batch@sorted - batch@shuffled`, `batch - 1.211`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from normlab.config.schema import InputError

_TERM = re.compile(r"\s*(?P<sign>[+-]?)\s*(?P<name>[A-Za-z][\w]*(?:@[\w.]+)?|\d+(?:\.\d+)?)\s*")


@dataclass(frozen=True)
class Cell:
    """An arm under a condition; findings without conditions have the condition ``""``."""

    arm: str
    condition: str = ""

    def __str__(self) -> str:
        return f"{self.arm}@{self.condition}" if self.condition else self.arm


@dataclass(frozen=True)
class Formula:
    """A sum of cells, each with weight +1 or -1, and a constant (None: the formula has no number)."""

    weights: Mapping[Cell, int]
    constant: float | None = None

    def at(self, condition: str) -> Formula:
        """The same formula, with this condition for the arms that name none."""
        return Formula({Cell(c.arm, c.condition or condition): w for c, w in self.weights.items()}, self.constant)

    def __str__(self) -> str:
        terms = [f"{'+' if weight > 0 else '-'} {cell}" for cell, weight in self.weights.items()]
        if self.constant is not None:
            terms.append(f"{'+' if self.constant > 0 else '-'} {abs(self.constant):g}")
        return " ".join(terms).removeprefix("+ ")

    def signed(self, *, flipped: bool, ratio: bool, named: Callable[[Cell], str] = str) -> str:
        """The formula in words, with the signs that its values have; a ratio is written as a quotient.

        `flipped` (a lower metric is better) turns `layer - batch` into `batch - layer`, or, for a ratio, into
        `batch over layer`. For a ratio, `a - 1` is written `a`. `named` says what a cell is called.
        """
        terms = [(-weight if flipped else weight, named(cell)) for cell, weight in self.weights.items()]
        if self.constant is not None and abs(self.constant) != (1 if ratio else 0):
            terms.append((-1 if (self.constant < 0) != flipped else 1, f"{abs(self.constant):g}"))
        first, second = ([name for weight, name in terms if weight * sign > 0] for sign in (1, -1))
        if ratio:
            times = " \N{MULTIPLICATION SIGN} "
            return times.join(first or ["1"]) + (f" over {times.join(second)}" if second else "")
        return (" + ".join(first) + "".join(f" \N{MINUS SIGN} {name}" for name in second)).strip()


def parse(text: str) -> Formula:
    """The formula in a finding's YAML.

    Raises:
        InputError: it is not a sum of arms and numbers, or names an arm twice.
    """
    weights: dict[Cell, int] = {}
    constant: float | None = None
    position = 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or (position > 0 and not term["sign"]):
            example = "'layer - batch' or 'batch@sorted - batch@shuffled'"
            raise InputError(f"{text!r} is not a sum of arms such as {example}")
        sign = -1 if term["sign"] == "-" else 1
        if term["name"][0].isdigit():
            constant = (constant or 0.0) + sign * float(term["name"])
        else:
            arm, _, condition = term["name"].partition("@")
            if Cell(arm, condition) in weights:
                raise InputError(f"{text!r} names {term['name']} twice")
            weights[Cell(arm, condition)] = sign
        position = term.end()
    if not weights:
        raise InputError(f"{text!r} names no arm")
    return Formula(weights, constant)
