"""Verdicts at looks fixed in advance: alpha is spent over the looks, and a finding stops once it is decided.

A design lists the numbers of seeds at which a finding may be judged, such as 8, 12, 18 and 24, and the error that they
share. By the spending function of Kim and DeMets (1987, Biometrika 74:149), α*(t) = α · t^2 with t = n / cap, a look
may spend the increase of α* since the previous look (Lan and DeMets 1983). Each look's interval has that increment as
its error, so all intervals of a design together cover with a chance of at least 1 - α: repeated confidence intervals
(Jennison and Turnbull 1989). The looks' errors are added, not integrated over the joint distribution of their t:
published boundaries assume normal differences, while the sum is valid wherever the interval is. For normal differences
at the last look of 8, 12, 18, 24, this makes the interval 4 % wider (t must reach 3.24 instead of 3.10).

Any rule for stopping at a planned look, or for continuing to the next, keeps this guarantee.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from normlab.stats import guarded
from normlab.stats.guarded import Array
from normlab.stats.paired import Interval
from normlab.stats.power import equivalence_power, fewest, power

GROWTH = 2.0  # of the spending function: 1 spends evenly, 3 is close to O'Brien and Fleming
SPREAD_LEVEL = 0.95  # of the upper bound on the spread from which the needed seeds are computed


@dataclass(frozen=True)
class Design:
    """Looks and the error that they share.

    looks  numbers of seeds, ascending; the last is the cap
    alpha  one minus the level of all looks' intervals together; for one of a family of six at 0.05: 0.05 / 6

    Raises:
        ValueError: looks not in ascending order, a first look below eight seeds, or an alpha outside 0 to 1.
    """

    looks: tuple[int, ...]
    alpha: float

    def __post_init__(self) -> None:
        if not self.looks:
            raise ValueError("a design needs at least one look, such as 8, 12, 18, 24")
        if any(later <= sooner for sooner, later in zip(self.looks, self.looks[1:], strict=False)):
            raise ValueError(f"looks must be in ascending order, unlike {_row(self.looks)}")
        if self.looks[0] < guarded.LEAST:
            raise ValueError(f"the first look needs at least {guarded.LEAST} seeds, not {self.looks[0]}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha={self.alpha}: an error rate must be between 0 and 1")

    @classmethod
    def capped(cls, looks: Sequence[int], cap: int, alpha: float) -> Design:
        """The looks up to a cap, which is the last of them.

        Raises:
            ValueError: as for the class, or the cap is below the first look.
        """
        if not looks or cap < looks[0]:
            raise ValueError(
                f"a cap of {cap} seeds is below the first look, {looks[0] if looks else 'which is missing'}"
            )
        return cls((*(look for look in looks if look < cap), cap), alpha)

    @property
    def cap(self) -> int:
        """The largest number of seeds; a finding not decided there stays undecided."""
        return self.looks[-1]

    @property
    def spent(self) -> tuple[float, ...]:
        """The error spent after each look, α*(n / cap); the last is alpha."""
        return tuple(self.alpha * (look / self.cap) ** GROWTH for look in self.looks)

    def error(self, look: int) -> float:
        """The error of that look's interval: the part of alpha spent there.

        Raises:
            ValueError: no look is planned at that number of seeds.
        """
        if look not in self.looks:
            raise ValueError(f"no look is planned at {look} seeds: there are {_row(self.looks)}")
        index = self.looks.index(look)
        return self.spent[index] - (self.spent[index - 1] if index else 0.0)

    def limits(self, values: ArrayLike, look: int) -> tuple[Array, Array]:
        """Limits at a look, of many studies at once, [..., seeds] → [...]: for simulations."""
        return guarded.limits(values, self.error(look))

    def interval(self, differences: Sequence[float], look: int, left_out: int = 0) -> Interval:
        """The repeated confidence interval at a look; its level is that of all looks together.

        Args:
            differences: one per seed, all seeds up to this look.
            look: the number of seeds planned.
            left_out: how many of these have no difference because a run failed; never leave out seeds by choice.

        Raises:
            ValueError: no such look, not the planned number of seeds, or as for `guarded.interval`.
        """
        self.error(look)
        if len(differences) + left_out != look:
            without = f" and {left_out} without a difference" if left_out else ""
            raise ValueError(
                f"the look at {look} seeds has {len(differences)}{without}: judge exactly the planned seeds"
            )
        low, high = self.limits(differences, look)
        return Interval(float(low), float(high), 1 - self.alpha)


def spread_bound(differences: Sequence[float], level: float = SPREAD_LEVEL) -> float:
    """Upper confidence bound on the sd of normal differences, s · √((n - 1) / χ²): 1.8 s at eight seeds."""
    n = len(differences)
    if n < 2:
        raise ValueError(f"the spread of {n} seeds is unknown")
    return float(np.std(differences, ddof=1) * np.sqrt((n - 1) / (2 * special.gammaincinv((n - 1) / 2, 1 - level))))


def seeds_needed(
    differences: Sequence[float],
    margin: float,
    alpha: float,
    wanted: float = 0.8,
    *,
    equivalence: bool = False,
    fixed: float = 0.0,
) -> int:
    """Seeds with which one look would distinguish 0 from the margin with that probability, by the spread's upper bound.

    Of `equivalence`: at which two equal arms would be shown to differ by less than the margin. The guarded
    interval's reach at the skewness seen is counted in. `fixed` is a standard error that seeds don't lessen, as that of
    the test's examples; where it is too large for any number of them, `power.MOST`.

    Raises:
        ValueError: fewer than two seeds, or all differences are equal.
    """
    d = np.asarray(differences, dtype=np.float64)
    sd = spread_bound(differences)
    _, skew = guarded.standardised(d)
    if sd <= guarded.SAME * float(np.abs(d).max()):
        raise ValueError("all differences are equal: they can't show how many seeds are needed")

    def chance(n: int) -> float:
        wide = float(guarded.widening(abs(float(skew)), max(n, guarded.LEAST), alpha))
        return (equivalence_power if equivalence else power)(
            n, margin, float(np.hypot(sd, fixed * n**0.5)), alpha, wide
        )

    return max(fewest(chance, wanted), guarded.LEAST)


def _row(looks: Sequence[int]) -> str:
    return ", ".join(map(str, looks)) or "none"
