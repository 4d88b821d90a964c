"""Shares of runs: Wilson's interval and Fisher's test."""

from __future__ import annotations

from normlab.stats.paired import Interval


def share_interval(count: int, n: int, alpha: float = 0.05) -> Interval:
    """Wilson's (1927) interval of a share; for rare events it doesn't keep its level: see `rates.rate_interval`."""
    from scipy import stats  # takes a second, which commands that don't need it should not

    found = stats.binomtest(count, n).proportion_ci(1 - alpha, method="wilson")
    return Interval(float(found.low), float(found.high), 1 - alpha)


def shares_differ(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Fisher's exact two-sided p of two shares being equal; each is (count, n)."""
    from scipy import stats

    table = [[count, n - count] for count, n in (first, second)]
    return float(stats.fisher_exact(table).pvalue)
