"""An interval for the difference of two means of independent runs, with unequal spreads and few, skewed values.

Each arm's mean has its guarded interval (`guarded.py`); MOVER, the method of variance estimates recovery (Zou and
Donner 2008, Stat. Med. 27:1693; Zou, Huo and Taleban 2009, Environmetrics 20:172, for skewed data), combines the two:

    low  = m₁ - m₂ - √((m₁ - l₁)² + (u₂ - m₂)²),     high = m₁ - m₂ + √((u₁ - m₁)² + (m₂ - l₂)²).

The spreads needn't be equal: if one arm hardly varies, the interval is the other arm's guarded one, and for normal runs
it is a Welch interval that takes each arm's degrees of freedom separately and so errs less often than it may.
docs/verdicts/simulation.md shows that it keeps its level wherever the guarded interval does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from normlab.stats import guarded
from normlab.stats.guarded import Array
from normlab.stats.paired import Interval


def limits(first: ArrayLike, second: ArrayLike, alpha: float) -> tuple[Array, Array]:
    """Low and high of each study's difference of means, [..., n₁] and [..., n₂] → [...].

    Where all values of an arm are equal the limits are infinite: no spread seen is no proof of none.

    Raises:
        ValueError: as `guarded.limits`, of either arm.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    (low_1, high_1), (low_2, high_2) = guarded.limits(one, alpha), guarded.limits(two, alpha)
    mean_1, mean_2 = one.mean(axis=-1), two.mean(axis=-1)
    difference = mean_1 - mean_2
    low = difference - np.hypot(mean_1 - low_1, high_2 - mean_2)
    return low, difference + np.hypot(high_1 - mean_1, mean_2 - low_2)


def interval(first: Sequence[float] | Array, second: Sequence[float] | Array, alpha: float = 0.05) -> Interval:
    """The interval of one study's mean of the first arm minus that of the second. Raises as `limits` does."""
    low, high = limits(first, second, alpha)
    return Interval(float(low), float(high), 1 - alpha)
