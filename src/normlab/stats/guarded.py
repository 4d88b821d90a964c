"""A t interval of a mean that keeps its level for skewed differences.

Student's t interval misses the mean too often if the differences are skewed: with eight seeds and a level of 99.2 %, it
misses 4.5 % of the time for exponential differences and 8.7 % for lognormal ones, instead of 0.8 %. Those samples lack
the rare large values, so both their mean and their spread are too small. The guarded interval multiplies t on each
side:

    low  = mean - t · w(-g) · s / √n,     high = mean + t · w(g) · s / √n,
    w(a) = base · exp(slope · max(0, a - start)),     g = m₃ / m₂^1.5, the sample's skewness.

Johnson (1978, JASA 73:536) showed that both limits must be moved by the sample's skewness. His and Hall's (1992)
corrections are first order in 1/√n and too small for eight seeds at an error of 1 %. So base, slope and start come
from a table, calibrated by simulation for each n and alpha (scripts/simulate/guard_table.py): the chance of a miss,
both sides together, is at most alpha for normal, exponential and lognormal (σ ≤ 1) differences in either direction, and
for differences of which one in ten is shifted by 3 sd. docs/verdicts/simulation.md shows this for these and others.

No interval keeps its level for every population (Bahadur and Savage 1956): it can't see a collapse that no seed has
shown. Rates of collapse are a separate outcome (`rates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from normlab.stats.paired import Interval

Array = NDArray[np.float64]

TABLE = Path(__file__).with_name("guarded.csv")
LEAST = 8  # seeds; with fewer, intervals that keep their level would be too wide to be useful
SAME = 1e-9  # a spread this small relative to the values is rounding: the differences are equal


def standardised(values: Array) -> tuple[Array, Array]:
    """√n · mean / s and the skewness m₃ / m₂^1.5 of each study, [..., n] → [...]; equal values have t = 0 and g = 0."""
    n = values.shape[-1]
    mean = values.mean(axis=-1)
    rest = values - mean[..., None]
    square = (rest * rest).mean(axis=-1)
    spread = np.sqrt(square)
    equal = spread <= SAME * np.abs(values).max(axis=-1)
    safe = np.where(equal, 1.0, spread)
    t = np.where(equal, 0.0, np.sqrt(n - 1) * mean / safe)
    return t, np.where(equal, 0.0, (rest * rest * rest).mean(axis=-1) / safe**3)


def limits(values: ArrayLike, alpha: float) -> tuple[Array, Array]:
    """Low and high of each study's mean, [..., n] → [...].

    If all differences of a study are equal, the limits are infinite, because that doesn't prove a spread of 0.

    Raises:
        ValueError: fewer than eight seeds, a value that is not a number, or an alpha outside 0 to 1.
    """
    d = np.asarray(values, dtype=np.float64)
    n = d.shape[-1] if d.ndim else 0
    if n < LEAST:
        raise ValueError(f"an interval that is valid for skewed differences needs at least {LEAST} seeds, not {n}")
    if not np.isfinite(d).all():
        raise ValueError("a difference is not a number: give runs that diverged a value first, or leave out the pair")
    mean, spread = d.mean(axis=-1), d.std(axis=-1, ddof=1)
    _, skew = standardised(d)
    half = -special.stdtrit(n - 1, alpha / 2) * spread / np.sqrt(n)
    equal = spread <= SAME * np.abs(d).max(axis=-1)
    low, high = mean - half * widening(-skew, n, alpha), mean + half * widening(skew, n, alpha)
    return np.where(equal, -np.inf, low), np.where(equal, np.inf, high)


def interval(differences: Sequence[float] | Array, alpha: float = 0.05) -> Interval:
    """The guarded interval of one study, one difference per seed. Raises as `limits` does."""
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1:
        raise ValueError(f"one study's differences must have shape [seeds], not {d.shape}")
    low, high = limits(d, alpha)
    return Interval(float(low), float(high), 1 - alpha)


def widening(skew: ArrayLike, n: int, alpha: float) -> Array:
    """w(a): the factor by which the limit on the side of that skewness is farther from the mean than t's.

    Between entries of the table, the next smaller n and alpha are used, whose factors are larger. Below the smallest
    alpha, its factor is used: far out, t's tail probability falls with the same power of t in every population with a
    density (Hotelling 1961).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: one minus the level must be between 0 and 1")
    base, slope, start = _row(n, alpha)
    return np.asarray(base * np.exp(slope * np.clip(np.asarray(skew) - start, 0, None)))


@cache
def _table() -> Array:
    return np.loadtxt(TABLE, delimiter=",", skiprows=1)


def _row(n: int, alpha: float) -> tuple[float, float, float]:
    table = _table()
    rows = table[table[:, 0] == table[table[:, 0] <= n, 0].max()]
    below = rows[rows[:, 1] <= alpha * (1 + 1e-9)]
    row = below[below[:, 1].argmax()] if len(below) else rows[rows[:, 1].argmin()]
    return float(row[2]), float(row[3]), float(row[4])
