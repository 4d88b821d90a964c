"""Two arms compared on the same seeds. Every function takes one difference per seed.

The paired t interval keeps its level for normal differences but not for skewed ones, so the guarded interval decides
(`guarded.py`). An exact test that assumes only symmetry and the effect size are shown in addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

RESAMPLES = 9_999
EXACT_UP_TO = 16  # seeds; up to here all 2^n sign patterns are tried, beyond it a sample of them


@dataclass(frozen=True)
class Interval:
    """An interval of a mean; `level` is its coverage, such as 0.95."""

    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Comparison:
    """What n paired seeds say about a difference.

    mean, sd     of the differences, in the metric's unit
    interval     paired t; keeps its level for normal differences
    p            two-sided paired t test of a mean of 0
    sign_flip_p  exact two-sided test that the differences are symmetric about 0; at least 2 / 2^n
    bootstrap    BCa interval of the mean; covers less than its level says, see `bootstrap_interval`
    effect       mean / sd (Cohen's d_z), corrected for its bias at small n (Hedges 1981)
    """

    n: int
    mean: float
    sd: float
    interval: Interval
    p: float
    sign_flip_p: float
    bootstrap: Interval
    effect: float


def compare(differences: Sequence[float] | NDArray[np.float64], alpha: float = 0.05) -> Comparison:
    """Compute the whole comparison.

    Args:
        differences: one per seed, arm minus arm.
        alpha: one minus the intervals' level; a family of m comparisons at 0.05 takes 0.05 / m.

    Raises:
        ValueError: fewer than two seeds, or a difference that is not a number.
    """
    d = _checked(differences)
    mean, sd = float(d.mean()), float(d.std(ddof=1))
    return Comparison(
        n=len(d),
        mean=mean,
        sd=sd,
        interval=t_interval(d, alpha),
        p=_t_test(d) if sd > 0 else float(mean == 0),
        sign_flip_p=sign_flip_test(d),
        bootstrap=bootstrap_interval(d, alpha),
        effect=_hedges(len(d)) * mean / sd if sd > 0 else float("inf") * np.sign(mean) if mean else 0.0,
    )


def t_interval(differences: Sequence[float] | NDArray[np.float64], alpha: float = 0.05) -> Interval:
    """Mean ± t(1 - alpha/2, n - 1) · sd / √n."""
    d = _checked(differences)
    half = float(special.stdtrit(len(d) - 1, 1 - alpha / 2) * d.std(ddof=1) / np.sqrt(len(d)))
    mean = float(d.mean())
    return Interval(mean - half, mean + half, 1 - alpha)


def sign_flip_test(differences: Sequence[float] | NDArray[np.float64]) -> float:
    """Two-sided p of the mean under all 2^n choices of signs (Fisher 1935); beyond 16 seeds, under a sample of them."""
    from scipy import stats  # takes a second, which commands that don't need it should not

    d = _checked(differences)
    tested = stats.permutation_test(
        (d,),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2 ** min(len(d), EXACT_UP_TO),
        rng=np.random.default_rng(0),
    )
    return float(tested.pvalue)


def bootstrap_interval(differences: Sequence[float] | NDArray[np.float64], alpha: float = 0.05) -> Interval:
    """BCa interval of the mean (Efron 1987); for equal differences it has no width.

    With few seeds it doesn't keep its level, not even for normal differences (docs/verdicts/simulation.md): don't print
    it as an interval of that level.
    """
    d = _checked(differences)
    if np.ptp(d) == 0:
        return Interval(float(d[0]), float(d[0]), 1 - alpha)
    from scipy import stats

    found = stats.bootstrap(
        (d,), np.mean, confidence_level=1 - alpha, n_resamples=RESAMPLES, rng=np.random.default_rng(0)
    ).confidence_interval
    return Interval(float(found.low), float(found.high), 1 - alpha)


def _t_test(d: NDArray[np.float64]) -> float:
    from scipy import stats

    return float(stats.ttest_1samp(d, 0.0).pvalue)


def _hedges(n: int) -> float:
    return 1 - 3 / (4 * (n - 1) - 1) if n > 2 else 1.0


def _checked(differences: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or len(d) < 2:
        raise ValueError(f"a comparison needs differences of shape [seeds], of at least two seeds, not {d.shape}")
    if not np.isfinite(d).all():
        raise ValueError("a difference is not a number: give runs that diverged a value first")
    return d
