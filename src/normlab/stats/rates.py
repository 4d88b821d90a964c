"""How often runs fail: rates of divergence or collapse, their difference, and the condition of a verdict on scores.

Divergence in one run of twenty is a separate outcome. Averaged into the scores, it breaks every interval of a mean,
because eight seeds without a failure look perfectly normal (docs/verdicts/simulation.md). So failures are counted and
tested here, exactly, and scores are compared on the seeds on which no run failed; `Failures.condition` says so in
words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from normlab.stats.paired import Interval
from normlab.stats.shares import shares_differ


@dataclass(frozen=True)
class RateDifference:
    """Two arms' rates, first minus second.

    counts    failures of each arm
    n         runs of each arm
    interval  of the difference; its coverage is at least its level, whatever the rates are
    p         two-sided, exact, for equal rates: McNemar's test if paired, otherwise Fisher's
    """

    counts: tuple[int, int]
    n: tuple[int, int]
    difference: float
    interval: Interval
    p: float
    paired: bool


def rate_interval(count: int, n: int, alpha: float = 0.05) -> Interval:
    """Clopper and Pearson's (1934) exact interval: 0 of 8 is at most 37 %. Wilson's covers too little for few runs.

    Raises:
        ValueError: a count outside 0 to n, or no runs.
    """
    if n < 1 or not 0 <= count <= n:
        raise ValueError(f"{count} of {n} runs is not a rate: the count must be from 0 to the number of runs")
    low = special.betaincinv(count, n - count + 1, alpha / 2) if count else 0.0
    high = special.betaincinv(count + 1, n - count, 1 - alpha / 2) if count < n else 1.0
    return Interval(float(low), float(high), 1 - alpha)


def paired_rates(first: Sequence[bool], second: Sequence[bool], alpha: float = 0.05) -> RateDifference:
    """Failures of two arms on the same seeds, entry by entry.

    If only the first failed on b seeds and only the second on c, the difference of the rates is b / n - c / n. Each
    share's Clopper–Pearson interval has half of alpha (Bonferroni); the difference's interval goes from b's low minus
    c's high to b's high minus c's low. p is McNemar's exact test (1947): b of b + c at one half.

    Raises:
        ValueError: arms of unequal length, or no seeds.
    """
    if len(first) != len(second):
        raise ValueError(f"pairs need one run of each arm per seed, not {len(first)} and {len(second)}")
    n = len(first)
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    b, c = rate_interval(only_first, n, alpha / 2), rate_interval(only_second, n, alpha / 2)
    discordant = only_first + only_second
    return RateDifference(
        counts=(int(one.sum()), int(two.sum())),
        n=(n, n),
        difference=(only_first - only_second) / n,
        interval=Interval(b.low - c.high, b.high - c.low, 1 - alpha),
        p=_mcnemar(only_first, discordant),
        paired=True,
    )


def _mcnemar(count: int, discordant: int) -> float:
    if not discordant:
        return 1.0
    from scipy import stats  # takes a second, which commands that don't need it should not

    return float(stats.binomtest(count, discordant).pvalue)


def unpaired_rates(first: tuple[int, int], second: tuple[int, int], alpha: float = 0.05) -> RateDifference:
    """Failures of two independent arms, (count, n) each.

    Each rate's Clopper–Pearson interval has the level √(1 - alpha), so both together have the level 1 - alpha.

    Raises:
        ValueError: a count outside 0 to n, or no runs.
    """
    each = 1 - np.sqrt(1 - alpha)
    one, two = rate_interval(*first, each), rate_interval(*second, each)
    return RateDifference(
        counts=(first[0], second[0]),
        n=(first[1], second[1]),
        difference=first[0] / first[1] - second[0] / second[1],
        interval=Interval(one.low - two.high, one.high - two.low, 1 - alpha),
        p=shares_differ(first, second),
        paired=False,
    )


@dataclass(frozen=True)
class Failures:
    """Which runs of two paired arms failed (diverged, collapsed or stayed at chance), one entry per seed."""

    first: tuple[bool, ...]
    second: tuple[bool, ...]

    def __post_init__(self) -> None:
        if len(self.first) != len(self.second) or not self.first:
            raise ValueError(f"pairs need one run of each arm per seed, not {len(self.first)} and {len(self.second)}")

    @property
    def kept(self) -> list[int]:
        """Indices of the seeds on which neither arm failed; the scores are compared on these."""
        return [i for i, failed in enumerate(zip(self.first, self.second, strict=True)) if not any(failed)]

    @property
    def both_failed(self) -> bool:
        """Did more than half of each arm's runs fail, so that their scores can't be compared?"""
        return all(2 * sum(arm) > len(arm) for arm in (self.first, self.second))

    def difference(self, alpha: float = 0.05) -> RateDifference:
        """The difference of the failure rates, first arm minus second."""
        return paired_rates(self.first, self.second, alpha)

    def condition(self, names: tuple[str, str]) -> str:
        """On which seeds a verdict about scores is conditional, in a sentence."""
        n = len(self.first)
        if len(self.kept) == n:
            high = rate_interval(0, n).high
            return (
                f"no run failed in {n} seeds; a failure rate of up to {_percent(high)} per arm is not excluded (95 %)"
            )
        counts = " and ".join(
            f"{sum(arm)} of {name}" for arm, name in zip((self.first, self.second), names, strict=True)
        )
        return f"on the {len(self.kept)} of {n} seeds on which no run failed; {counts} failed"


def _percent(rate: float) -> str:
    """Whole per cent, but a small rate is never printed as none."""
    return f"{rate:.0%}" if rate >= 0.01 else f"{100 * rate:.1g}%"
