"""Multiple comparisons, and shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from normlab.stats.paired import Interval


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values: rejecting those below alpha holds the chance of any error to alpha."""
    order = np.argsort(p)
    scaled = [(len(p) - rank) * p[index] for rank, index in enumerate(order)]
    adjusted = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return [float(adjusted[list(order).index(index)]) for index in range(len(p))]


def share_interval(count: int, n: int, alpha: float = 0.05) -> Interval:
    """Wilson's (1927) interval of a share; for rare events it doesn't keep its level: see `rates.rate_interval`."""
    found = stats.binomtest(count, n).proportion_ci(1 - alpha, method="wilson")
    return Interval(float(found.low), float(found.high), 1 - alpha)


def shares_differ(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Fisher's exact two-sided p of two shares being equal; each is (count, n)."""
    table = [[count, n - count] for count, n in (first, second)]
    return float(stats.fisher_exact(table).pvalue)
