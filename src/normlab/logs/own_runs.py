"""Two arms of the user's own runs, paired by seed or independent, and the verdict on them. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from normlab.findings.states import ALPHA, ruled, state_of
from normlab.findings.verdict import Estimate, Reason
from normlab.stats import unpaired
from normlab.stats.guarded import LEAST
from normlab.stats.paired import Interval
from normlab.stats.rates import RateDifference, unpaired_rates
from normlab.stats.sequential import Design


@dataclass(frozen=True)
class Arms:
    """Two arms' runs.

    names   the one that is claimed to be better, and the other
    runs    of each, seed → value; nan: the run failed
    paired  runs of one seed are compared; otherwise the arms are independent
    """

    metric: str
    names: tuple[str, str]
    runs: tuple[Mapping[int, float], Mapping[int, float]]
    paired: bool

    @property
    def shared(self) -> list[int]:
        """Seeds of both arms, in order."""
        return sorted(set(self.runs[0]) & set(self.runs[1]))

    @property
    def alone(self) -> int:
        """How many seeds only one of the arms has."""
        return len(set(self.runs[0]) ^ set(self.runs[1]))

    def differences(self, *, lower: bool = False) -> dict[int, float]:
        """First minus second (`lower`: second minus first), on the seeds on which neither failed."""
        sign = -1.0 if lower else 1.0
        pairs = ((seed, sign * (self.runs[0][seed] - self.runs[1][seed])) for seed in self.shared)
        return {seed: difference for seed, difference in pairs if math.isfinite(difference)}

    def gains(self, margin: float, *, lower: bool = False) -> list[float]:
        """Of each shared seed, by how much the first arm's lead exceeds the margin; for sessions.

        A pair with one failed run counts against that run's arm, as the largest gain or loss up to that seed: if the
        arms are alike, it is as likely the one as the other. A pair that failed twice says nothing.
        """
        sign, largest, found = (-1.0 if lower else 1.0), 0.0, []
        for seed in self.shared:
            first, second = self.runs[0][seed], self.runs[1][seed]
            gain = sign * (first - second) - margin
            if math.isnan(gain):
                gain = float(math.isnan(second) - math.isnan(first)) * (largest or 1.0)
            largest = max(largest, abs(gain))
            found.append(gain)
        return found

    def finished(self) -> tuple[list[float], list[float]]:
        """Each arm's values of runs that didn't fail."""
        first, second = ([value for value in arm.values() if math.isfinite(value)] for arm in self.runs)
        return first, second

    def failures(self) -> RateDifference:
        """Of independent arms: how often each failed."""
        first, second = ((len(arm) - len(own), len(arm)) for arm, own in zip(self.runs, self.finished(), strict=True))
        return unpaired_rates(first, second, ALPHA)


def verdict_on(arms: Arms, margin: float, alpha: float, *, lower: bool = False) -> Estimate:
    """Supported if the first arm is better than the second by more than the margin, at a single look."""
    if arms.paired:
        return _paired(arms, margin, alpha, lower=lower)
    return _independent(arms, margin, alpha, lower=lower)


def _paired(arms: Arms, margin: float, alpha: float, *, lower: bool) -> Estimate:
    differences, seeds = arms.differences(lower=lower), arms.shared
    d = list(differences.values())
    made = replace(
        _blank(arms),
        seeds=list(differences),
        values=d,
        mean=float(np.mean(d)) if d else 0.0,
        sd=float(np.std(d, ddof=1)) if len(d) > 1 else 0.0,
        interval=Design((len(seeds),), alpha).interval(d, len(seeds), len(seeds) - len(d)) if len(d) >= LEAST else None,
        left_out=[seed for seed in seeds if seed not in differences],
        failed=[[seed for seed in seeds if math.isnan(arm[seed])] for arm in arms.runs],
    )
    return ruled("difference", margin, made)


def _independent(arms: Arms, margin: float, alpha: float, *, lower: bool) -> Estimate:
    """`sd` is that of a difference of two runs: no seed has a difference of its own."""
    first, second = arms.finished()
    sign = -1.0 if lower else 1.0
    one, two = sign * np.array(first), sign * np.array(second)
    interval = unpaired.interval(one, two, alpha) if min(len(one), len(two)) >= LEAST else None
    made = replace(
        _blank(arms),
        mean=float(one.mean() - two.mean()) if len(one) and len(two) else 0.0,
        sd=float(np.sqrt(one.var(ddof=1) + two.var(ddof=1))) if min(len(one), len(two)) > 1 else 0.0,
        interval=interval,
    )
    state, kind = _state(arms, margin, interval)
    return replace(made, state=state, kind=kind)


def _state(arms: Arms, margin: float, interval: Interval | None) -> tuple[str, Reason]:
    """As `ruled` says it of pairs, from the independent rates of failure."""
    rates = arms.failures()
    if all(2 * count > n for count, n in zip(rates.counts, rates.n, strict=True)):
        return "undecided", Reason.BOTH_FAILED
    if interval is None:
        return "undecided", Reason.FEW_PAIRS
    if math.isinf(interval.low):
        return "undecided", Reason.NO_SPREAD
    state, kind = state_of("difference", margin, interval.low, interval.high)
    worse = "supported" if rates.interval.low > 0 else "contradicted" if rates.interval.high < 0 else None
    return ("undecided", Reason.FAILURES) if worse == state else (state, kind)


def _blank(arms: Arms) -> Estimate:
    return Estimate.blank("first against second", "first - second", arms.metric, arms.names)
