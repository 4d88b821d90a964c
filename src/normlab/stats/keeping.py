"""A sequence of keep-or-discard decisions that share one error rate.

Trying a hundred edits and keeping each that looks better keeps noise, with which each later edit is then compared. A
session limits the chance of keeping anything that is no better: `alpha`, over all its edits.

Within an edit, the evidence is an e-process: a stake in a fair game. If the edit changes nothing, both arms of a pair
are exchangeable, so a difference is as likely as its negative, whatever its size. Betting a share tanh(λ |d|) of the
stake on the sign multiplies it by 1 + tanh(λ |d|) · sign(d), a martingale (de la Peña 1999, Ann. Probab. 27:537;
Ramdas, Ruf, Larsson and Koolen 2020, arXiv 2009.03167). By Ville's inequality, the chance that it ever reaches 1 / a is
at most a, so you may look after every seed and stop at any time. The spread needn't be known, and tails may be heavy.

Over edits, the error is spent by online fallback (Tian and Ramdas 2021, Stat. Methods Med. Res. 30:976): edit i may use
its own share of alpha and, if the edit before it was kept, that one's too. This limits the chance of any false keep
under any dependence.

The guarantee covers edits that change nothing, and symmetric differences. An edit with which most seeds gain a little
and a few lose much may be kept although the mean gains nothing, so count failures separately (`rates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from normlab.stats.guarded import Array

STAKES = (0.5, 1.0, 2.0, 4.0)  # λ, in units of the differences' root mean square so far; they share the stake evenly

Decision = Literal["keep", "open", "discard"]


def evidence(differences: ArrayLike) -> Array:
    """The e-process after each seed, [..., seeds] → [..., seeds], for the new arm being better; it starts at 1.

    Raises:
        ValueError: a difference that is not a number.
    """
    d = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(d).all():
        raise ValueError("a difference is not a number: give runs that failed a value first")
    size = np.sqrt(np.cumsum(d * d, axis=-1) / np.arange(1, d.shape[-1] + 1))  # computed before the sign is seen
    unit = np.abs(d) / np.where(size > 0, size, 1.0)
    bets = [np.cumprod(1 + np.tanh(stake * unit) * np.sign(d), axis=-1) for stake in STAKES]
    return np.asarray(np.mean(bets, axis=0))


@dataclass(frozen=True)
class Session:
    """The state of a session, from which the error that is left follows.

    alpha    the chance of any false keep
    planned  number of edits that share alpha evenly; None: any number, and edit i has the share 1 / (i · (i + 1))
    kept     for each edit decided so far, in order, whether it was kept

    Raises:
        ValueError: an alpha outside 0 to 1, or more edits than planned.
    """

    alpha: float = 0.05
    planned: int | None = None
    kept: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha={self.alpha}: an error rate must be between 0 and 1")
        if self.planned is not None and not 0 <= len(self.kept) <= self.planned:
            raise ValueError(f"{len(self.kept)} edits were decided, but {self.planned} planned")

    @property
    def level(self) -> float:
        """The error that the current edit may use.

        Raises:
            ValueError: all planned edits are decided, so no error is left.
        """
        if self.planned is not None and len(self.kept) >= self.planned:
            raise ValueError(
                f"all {self.planned} planned edits are decided: further ones need a new session and fresh seeds"
            )
        level = 0.0
        for i in range(len(self.kept) + 1):
            level = self.alpha * self._share(i) + (level if i and self.kept[i - 1] else 0.0)
        return level

    def decide(self, differences: Sequence[float], most: int) -> Decision:
        """Decide on the current edit: keep once the evidence reaches 1 / level, discard at `most` seeds, else open.

        Args:
            differences: edit minus what it is compared with, one per seed, in order of arrival; positive is better.
            most: seeds after which an edit that is still open is discarded.

        Raises:
            ValueError: as `level` and `evidence`.
        """
        if len(differences) and evidence(differences).max() >= 1 / self.level:
            return "keep"
        return "discard" if len(differences) >= most else "open"

    def after(self, kept: bool) -> Session:
        """The session after the current edit is decided."""
        _ = self.level
        return replace(self, kept=(*self.kept, kept))

    def seeds_at_least(self) -> int:
        """The fewest seeds after which an edit can be kept: each seed at most doubles the stake."""
        return int(np.ceil(np.log2(1 / self.level)))

    def _share(self, i: int) -> float:
        return 1 / self.planned if self.planned is not None else 1 / ((i + 1) * (i + 2))
