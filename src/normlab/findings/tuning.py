"""The first stage: from scores at each point to each cell's best one, the same rule for all.

Successive halving (Jamieson and Talwalkar 2016, 1502.07943): every point is tried with one seed, the better half of a
cell's points with more, and so on; the best mean of those with the most seeds is chosen. The runs with the first seeds
may be halved in the same way by their own curves: they pause, and only the best of them go on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from normlab.findings.finding import Tuning

WIDENED_AT_MOST = 2  # half decades at either end


@dataclass(frozen=True)
class TuningScores:
    """The scores of one cell.

    scores  point → one value per tuning seed, by rising seed, with the substitute value for runs that diverged
    best    max or min
    lost    points of which every run diverged or ended at chance
    ended   points whose runs were ended early, which have no scores
    """

    scores: Mapping[float, Sequence[float]]
    best: str
    lost: frozenset[float] = frozenset()
    ended: frozenset[float] = frozenset()

    @property
    def chosen(self) -> float:
        """Of the points with the most seeds the one with the best mean; of equal ones the smallest."""
        most = max(map(len, self.scores.values()))
        return self._ranked([point for point, values in self.scores.items() if len(values) == most], most)[0]

    def better_half(self, points: Sequence[float], seeds: int) -> list[float]:
        """The better half of the points (of five two) by the mean over the first `seeds`, without those that are lost.

        Those that were ended early count as the worst. Empty if one is left, which more seeds can't change.
        """
        half = self._ranked([point for point in points if point not in self.ended], seeds)[: len(points) // 2]
        kept = sorted(point for point in half if point not in self.lost)
        return kept if len(kept) > 1 else []

    def _ranked(self, points: Sequence[float], seeds: int) -> list[float]:
        """The best mean over the first `seeds` first; of equal ones the smallest point."""
        sign = -1 if self.best == "max" else 1
        return sorted(points, key=lambda point: (sign * float(np.mean(self.scores[point][:seeds])), point))

    @property
    def edge(self) -> int:
        """-1 or +1: the best point is the smallest or the largest, and a better one may lie beyond; 0: it is inside."""
        points = sorted({*self.scores, *self.ended})
        return -1 if self.chosen == points[0] else 1 if self.chosen == points[-1] else 0


def going_on(reached: Mapping[float, float | None], best: str, keep: float) -> list[float]:
    """The points whose runs go on after a pause: of those of a cell the best share, by what they have reached.

    All of them if one's validations don't say what it has reached.

    Args:
        reached: point → mean over the seeds; minus or plus infinity if its runs diverged.
        keep: the share of the points, rounded up (0.4 of five: two).
    """
    known = {point: value for point, value in reached.items() if value is not None}
    if len(known) < len(reached):
        return sorted(reached)
    sign = -1 if best == "max" else 1
    return sorted(sorted(known, key=lambda point: (sign * known[point], point))[: kept_of(len(known), keep)])


def kept_of(points: int, keep: float) -> int:
    """How many points that share is."""
    return math.ceil(round(keep * points, 6))


def widened(tuning: Tuning, points: Sequence[float], curves: Sequence[TuningScores]) -> list[float]:
    """Points to add for every cell because some cell's best one is at an end; none after two additions."""
    edges = {curve.edge for curve in curves}
    added: list[float] = []
    if -1 in edges and _steps(min(points), tuning.points[0]) < WIDENED_AT_MOST:
        added.append(half_decade(min(points), -1))
    if 1 in edges and _steps(max(points), tuning.points[-1]) < WIDENED_AT_MOST:
        added.append(half_decade(max(points), 1))
    return added


def rounds(points: int, seeds: Sequence[int]) -> list[tuple[int, range]]:
    """Of each round the number of points and which seeds are new, counted from 0, if no point is lost."""
    found: list[tuple[int, range]] = []
    before = 0
    for upto in seeds:
        if found and points < 2:
            break
        found.append((points, range(before, upto)))
        points, before = points // 2, upto
    return found


def half_decade(point: float, direction: int) -> float:
    """1 → 3 → 10 → 30 upwards, 10 → 3 → 1 downwards: the nearest such number beyond `point`."""
    exponent = math.floor(math.log10(point) + 1e-9)
    ladder = [digit * 10.0**e for e in range(exponent - 1, exponent + 2) for digit in (1, 3)]
    if direction > 0:
        return float(f"{min(p for p in ladder if p > point * 1.001):.0e}")
    return float(f"{max(p for p in ladder if p < point * 0.999):.0e}")


def _steps(point: float, start: float) -> int:
    return round(abs(math.log10(point / start)) * 2)
