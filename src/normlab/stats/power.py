"""How many seeds a comparison needs, from the spread and the margin, never from the observed effect."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

MOST = 10_000


def power(n: int, difference: float, sd: float, alpha: float = 0.05, wide: float = 1.0) -> float:
    """Chance that a two-sided paired t test at `alpha` finds a true difference, given the sd of differences.

    `wide` is the factor by which the interval is wider than t's (`guarded.widening`). Computed by quadrature as in
    `equivalence_power`, because scipy's noncentral t gives nan if the difference is many sd.
    """
    reach, error = wide * _half_widths(n, sd, alpha), sd / np.sqrt(n)
    beyond = special.ndtr((difference - reach) / error) + special.ndtr((-reach - difference) / error)
    return float(np.mean(beyond))


def equivalence_power(n: int, margin: float, sd: float, alpha: float = 0.05, wide: float = 1.0) -> float:
    """Chance that the interval of level 1 - alpha lies inside ±margin when the true difference is 0.

    The interval's half width h is t · s / √n, with s² ~ sd² χ²(n-1) / (n-1); given s the mean is normal, so the
    chance is the mean of P(|mean| < margin - h) over s (Schuirmann 1987), by quadrature over the quantiles of χ².
    """
    room = np.maximum(margin - wide * _half_widths(n, sd, alpha), 0)
    return float(np.mean(2 * special.ndtr(room * np.sqrt(n) / sd) - 1))


def _half_widths(n: int, sd: float, alpha: float) -> NDArray[np.float64]:
    """The interval's half width at equally likely values of the observed spread."""
    quantiles = (np.arange(4000) + 0.5) / 4000
    s = sd * np.sqrt(2 * special.gammaincinv((n - 1) / 2, quantiles) / (n - 1))
    return np.asarray(special.stdtrit(n - 1, 1 - alpha / 2) * s / np.sqrt(n))


def seeds_needed(difference: float, sd: float, alpha: float = 0.05, wanted: float = 0.8) -> int:
    """The fewest seeds with which a true difference is found with that chance."""
    return fewest(lambda n: power(n, difference, sd, alpha), wanted)


def fewest(chance: Callable[[int], float], wanted: float) -> int:
    """The smallest n from 2 at which a growing chance reaches the wanted one; `MOST` if none does."""
    low, high = 2, 2
    while chance(high) < wanted:
        low, high = high + 1, 2 * high
        if high > MOST:
            return MOST
    while low < high:
        middle = (low + high) // 2
        if chance(middle) < wanted:
            low = middle + 1
        else:
            high = middle
    return low
