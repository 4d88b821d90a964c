"""The first stage: choose each cell's best point from its scores, by the same rule for all cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from normlab.findings.finding import Tuning

WIDENED_AT_MOST = 2  # half decades at either end


@dataclass(frozen=True)
class TuningScores:
    """The scores of one cell: point → one value per tuning seed; a run that diverged has its substitute value."""

    scores: Mapping[float, Sequence[float]]
    best: str  # max or min

    @property
    def means(self) -> dict[float, float]:
        """Mean over the tuning seeds, in ascending order of points."""
        return {point: float(np.mean(self.scores[point])) for point in sorted(self.scores)}

    @property
    def chosen(self) -> float:
        """The point with the best mean; if several are equal, the smallest."""
        sign = 1 if self.best == "max" else -1
        return max(self.means, key=lambda point: (sign * self.means[point], -point))

    @property
    def edge(self) -> int:
        """-1 or +1: the best point is the smallest or the largest, and a better one may lie beyond; 0: it is inside."""
        points = sorted(self.scores)
        return -1 if self.chosen == points[0] else 1 if self.chosen == points[-1] else 0


def widened(tuning: Tuning, points: Sequence[float], curves: Sequence[TuningScores]) -> list[float]:
    """Points to add for every cell because some cell's best one is at an end; none after two additions."""
    edges = {curve.edge for curve in curves}
    added: list[float] = []
    if -1 in edges and _steps(min(points), tuning.points[0]) < WIDENED_AT_MOST:
        added.append(half_decade(min(points), -1))
    if 1 in edges and _steps(max(points), tuning.points[-1]) < WIDENED_AT_MOST:
        added.append(half_decade(max(points), 1))
    return added


def half_decade(point: float, direction: int) -> float:
    """1 → 3 → 10 → 30 upwards, 10 → 3 → 1 downwards: the nearest such number beyond `point`."""
    exponent = math.floor(math.log10(point) + 1e-9)
    ladder = [digit * 10.0**e for e in range(exponent - 1, exponent + 2) for digit in (1, 3)]
    if direction > 0:
        return float(f"{min(p for p in ladder if p > point * 1.001):.0e}")
    return float(f"{max(p for p in ladder if p < point * 0.999):.0e}")


def _steps(point: float, start: float) -> int:
    return round(abs(math.log10(point / start)) * 2)
