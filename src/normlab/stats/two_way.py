"""One interval with the errors of both seeds and test examples.

A difference of accuracies has two sources of error: other seeds train other networks, and other test examples give
other scores. With d[s, b] the arms' difference on seed s and block b of examples, the crossed random effects are

    d[s, b] = μ + seed[s] + block[b] + rest[s, b]

(Owen 2007, Ann. Appl. Stat. 1:386). The seeds' means have a guarded interval and the blocks' means a t interval; both
are combined by the method of variance estimates recovery (MOVER: Zou and Donner 2008, Stat. Med. 27:1693),
low = mean - √((mean - low₁)² + (mean - low₂)²), high likewise. The variance of the rest is counted twice, as in Owen's
bootstrap, so the interval is too wide rather than too narrow.
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

LEAST_BLOCKS = 10


@dataclass(frozen=True)
class TwoWay:
    """A mean difference, with the errors of seeds and examples.

    seed_error, block_error  standard error of the mean over seeds, and over blocks
    interval                 of both together
    seeds_alone              the guarded interval over seeds, for these test examples only
    """

    n_seeds: int
    n_blocks: int
    mean: float
    seed_error: float
    block_error: float
    interval: Interval
    seeds_alone: Interval


def two_way(differences: ArrayLike, sizes: Sequence[int] | None = None, alpha: float = 0.05) -> TwoWay:
    """The interval over seeds and blocks.

    Args:
        differences: [seeds, blocks], the mean difference per example of each seed on each block; from counts of
        correct examples: (first - second) / size.
        sizes: examples of each block; None if all are equal.
        alpha: one minus the level; at a look of a design, `Design.error`.

    Raises:
        ValueError: fewer than eight seeds or ten blocks, another shape, or a value that is not a number.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2:
        raise ValueError(f"differences must have shape [seeds, blocks], not {d.shape}")
    if d.shape[1] < LEAST_BLOCKS:
        raise ValueError(f"an interval over examples needs at least {LEAST_BLOCKS} blocks, not {d.shape[1]}")
    weights = _weights(d.shape[1], sizes)
    rows = d @ weights
    low, high = limits(d, weights, alpha)
    return TwoWay(
        n_seeds=d.shape[0],
        n_blocks=d.shape[1],
        mean=float(rows.mean()),
        seed_error=float(rows.std(ddof=1) / np.sqrt(len(rows))),
        block_error=float(_block_error(d, weights)),
        interval=Interval(float(low), float(high), 1 - alpha),
        seeds_alone=guarded.interval(rows, alpha),
    )


def limits(d: Array, weights: Array, alpha: float) -> tuple[Array, Array]:
    """Limits for each study, [..., seeds, blocks] → [...]; weights [blocks] sum to 1."""
    rows = d @ weights
    mean = rows.mean(axis=-1)
    low, high = guarded.limits(rows, alpha)
    reach = stats.t.isf(alpha / 2, d.shape[-1] - 1) * _block_error(d, weights)
    return mean - np.hypot(mean - low, reach), mean + np.hypot(high - mean, reach)


def _block_error(d: Array, weights: Array) -> Array:
    """Standard error over blocks of a mean weighted by their sizes, as of a ratio estimator (Cochran 1977, 6.4)."""
    columns = d.mean(axis=-2)
    rest = weights * (columns - (columns @ weights)[..., None])
    blocks = d.shape[-1]
    return np.asarray(np.sqrt(blocks / (blocks - 1) * (rest * rest).sum(axis=-1)))


def _weights(blocks: int, sizes: Sequence[int] | None) -> Array:
    if sizes is None:
        return np.full(blocks, 1 / blocks)
    weights = np.asarray(sizes, dtype=np.float64)
    if weights.shape != (blocks,) or not (weights > 0).all():
        raise ValueError(f"sizes must be the number of examples of each of {blocks} blocks, all above 0")
    return weights / weights.sum()
