"""Verdicts at looks fixed in advance: alpha is spent over the looks, and what is decided stops.

A design names the numbers of seeds at which a finding may be judged, such as 8, 12, 18 and 24, and the error that all
of them share. By the spending function of Kim and DeMets (1987, Biometrika 74:149), α*(t) = α · t^2 with t = n / cap,
a look may spend what α* has grown by since the look before (Lan and DeMets 1983). The interval of each look has that
increment as its own error, so that all of a design's intervals hold together with a chance of at least 1 - α:
repeated confidence intervals (Jennison and Turnbull 1989). The looks' errors are added up instead of integrated over
the joint distribution of their t: published boundaries assume normal seeds, the sum holds for whatever the interval
holds for. At the last look of 8, 12, 18, 24 it costs normal seeds 4 % of the interval's width (t must reach 3.24
instead of 3.10).

Whoever stops only at a planned look, because the interval then decides, or continues because it does not, may do so by
any rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from normlab.stats import guarded
from normlab.stats.guarded import Array
from normlab.stats.paired import Interval
from normlab.stats.power import equivalence_power, fewest, power

GROWTH = 2.0  # of the spending function: 1 spends evenly, 3 is close to O'Brien and Fleming
SPREAD_LEVEL = 0.95  # of the upper bound on the spread from which the seeds needed are told


@dataclass(frozen=True)
class Design:
    """Looks and the error that they share.

    looks  numbers of seeds, rising; the last is the cap
    alpha  one minus the level at which all looks' intervals hold together; of a family of six at 0.05: 0.05 / 6

    Raises:
        ValueError: looks that don't rise, a first look below eight seeds, an alpha that is no chance.
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
            raise ValueError(f"alpha={self.alpha}: an error rate lies between 0 and 1")

    @classmethod
    def capped(cls, looks: Sequence[int], cap: int, alpha: float) -> Design:
        """The looks up to a cap, which is the last of them.

        Raises:
            ValueError: as the class, or the cap lies below the first look.
        """
        if not looks or cap < looks[0]:
            raise ValueError(
                f"a cap of {cap} seeds lies below the first look, {looks[0] if looks else 'which is missing'}"
            )
        return cls((*(look for look in looks if look < cap), cap), alpha)

    @property
    def cap(self) -> int:
        """The most seeds; an interval that decides nothing there leaves the finding undecided."""
        return self.looks[-1]

    @property
    def spent(self) -> tuple[float, ...]:
        """The error spent after each look, α*(n / cap); the last is alpha."""
        return tuple(self.alpha * (look / self.cap) ** GROWTH for look in self.looks)

    def error(self, look: int) -> float:
        """The error of that look's own interval: what is spent there.

        Raises:
            ValueError: no look is planned at that number of seeds.
        """
        if look not in self.looks:
            raise ValueError(f"no look is planned at {look} seeds: there are {_row(self.looks)}")
        index = self.looks.index(look)
        return self.spent[index] - (self.spent[index - 1] if index else 0.0)

    def limits(self, values: ArrayLike, look: int) -> tuple[Array, Array]:
        """Low and high at a look of many studies at once, [..., seeds] → [...]: for simulations."""
        return guarded.limits(values, self.error(look))

    def interval(self, differences: Sequence[float], look: int, left_out: int = 0) -> Interval:
        """The repeated confidence interval of a look; its level is that of all looks together.

        Args:
            differences: one per seed, all seeds up to this look.
            look: the number of seeds planned.
            left_out: of these, seeds without a difference, as a run of theirs failed; never by choice.

        Raises:
            ValueError: no such look, another number of seeds than planned, or as `guarded.interval`.
        """
        self.error(look)
        if len(differences) + left_out != look:
            without = f" and {left_out} without a difference" if left_out else ""
            raise ValueError(
                f"the look at {look} seeds has {len(differences)}{without}: judge all of them, and no others"
            )
        low, high = self.limits(differences, look)
        return Interval(float(low), float(high), 1 - self.alpha)

    def next_look(self, seen: Sequence[int]) -> int | None:
        """The look after those seen; None after the cap.

        Raises:
            ValueError: the looks seen are not the first ones of the design, each once.
        """
        if tuple(seen) != self.looks[: len(seen)]:
            raise ValueError(f"looks were taken at {_row(seen)} seeds, but planned at {_row(self.looks)}")
        return self.looks[len(seen)] if len(seen) < len(self.looks) else None


def spread_bound(differences: Sequence[float], level: float = SPREAD_LEVEL) -> float:
    """Upper confidence bound on the sd of normal differences, s · √((n - 1) / χ²): 1.8 s at eight seeds."""
    n = len(differences)
    if n < 2:
        raise ValueError(f"the spread of {n} seeds is unknown")
    return float(np.std(differences, ddof=1) * np.sqrt((n - 1) / stats.chi2.ppf(1 - level, n - 1)))


def seeds_needed(
    differences: Sequence[float],
    margin: float,
    alpha: float,
    wanted: float = 0.8,
    *,
    equivalence: bool = False,
    fixed: float = 0.0,
) -> int:
    """Seeds at which one look would distinguish 0 from the margin with that probability, by the spread's upper bound.

    Of `equivalence`: at which two equal arms would be shown to differ by less than the margin. The guarded
    interval's reach at the skewness seen is counted in. `fixed` is a standard error that seeds don't lessen, as that of
    the test's examples; where it is too large for any number of them, `power.MOST`.

    Raises:
        ValueError: fewer than two seeds, or all differences equal, of which nothing follows.
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
