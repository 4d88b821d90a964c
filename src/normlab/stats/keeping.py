"""Many keep-or-discard decisions in a row, with one error for all of them.

Whoever tries a hundred edits and keeps what looks better keeps noise, and each later edit is compared with it. A
session fixes the chance that anything at all is kept that is no better: `alpha`, over all its edits.

Within an edit, evidence is an e-process: a stake that a fair game multiplies. If the edit changes nothing, both arms
of a pair are exchangeable, so that a difference is as likely as its negative whatever its size; betting a share
tanh(λ |d|) of the stake on the sign multiplies it by 1 + tanh(λ |d|) · sign(d), a martingale (de la Peña 1999, Ann.
Probab. 27:537; Ramdas, Ruf, Larsson and Koolen 2020, arXiv 2009.03167). By Ville's inequality it ever reaches 1 / a
with a chance of at most a: one may look after every seed and stop whenever one likes. No spread needs to be known and
no tail is too heavy.

Over edits, error is spent by online fallback (Tian and Ramdas 2021, Stat. Methods Med. Res. 30:976): edit i may use
its own share of alpha, and, if the edit before was kept, that one's too. It holds the chance of any false keep under
any dependence.

What is promised concerns edits that change nothing, or differences that are symmetric. An edit with which most seeds
gain a little and a few lose much is kept for the many, even if the mean gains nothing: failures are to be counted
apart (`rates.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from normlab.stats.guarded import Array

STAKES = (0.5, 1.0, 2.0, 4.0)  # λ in units of the differences' root mean square so far; the stake is split evenly

Decision = Literal["keep", "open", "discard"]


def evidence(differences: ArrayLike) -> Array:
    """The e-process after each seed, [..., seeds] → [..., seeds], that the new arm is better: it starts from 1.

    Raises:
        ValueError: a difference that is not a number.
    """
    d = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(d).all():
        raise ValueError("a difference is not a number: give runs that failed a value first")
    size = np.sqrt(np.cumsum(d * d, axis=-1) / np.arange(1, d.shape[-1] + 1))  # known before the sign is
    unit = np.abs(d) / np.where(size > 0, size, 1.0)
    bets = [np.cumprod(1 + np.tanh(stake * unit) * np.sign(d), axis=-1) for stake in STAKES]
    return np.asarray(np.mean(bets, axis=0))


@dataclass(frozen=True)
class Session:
    """What is left of a session's error.

    alpha    the chance of any false keep
    planned  edits that share alpha evenly; None: as many as come, edit i with the share 1 / (i · (i + 1))
    kept     of each edit decided so far, in order, whether it was kept

    Raises:
        ValueError: an alpha that is no chance, or more edits than planned.
    """

    alpha: float = 0.05
    planned: int | None = None
    kept: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha={self.alpha}: an error rate lies between 0 and 1")
        if self.planned is not None and not 0 <= len(self.kept) <= self.planned:
            raise ValueError(f"{len(self.kept)} edits were decided, but {self.planned} planned")

    @property
    def level(self) -> float:
        """The error that the edit in hand may use.

        Raises:
            ValueError: all planned edits are decided, so that no error is left.
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
        """Of the edit in hand: keep once the evidence has reached 1 / level, discard at the most seeds, else open.

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
        """The session once the edit in hand is decided."""
        _ = self.level
        return replace(self, kept=(*self.kept, kept))

    def seeds_at_least(self) -> int:
        """Seeds without which not even the largest effect can be kept: a stake at most doubles with each."""
        return int(np.ceil(np.log2(1 / self.level)))

    def _share(self, i: int) -> float:
        return 1 / self.planned if self.planned is not None else 1 / ((i + 1) * (i + 2))
