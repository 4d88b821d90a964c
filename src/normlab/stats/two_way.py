"""One interval with the errors of both seeds and test examples.

A difference of scores has two sources of error: other seeds would have trained other networks, other examples would
have been other questions. With d[s, e] the arms' difference on seed s and example e, crossed random effects are

    d[s, e] = μ + seed[s] + example[e] + rest[s, e]

(Owen 2007, Ann. Appl. Stat. 1:386; readers and cases in Gallas 2006, Acad. Radiol. 13:353). Each way's mean has an
interval of its own, and both are put together by the method of variance estimates recovery (MOVER: Zou and Donner
2008, Stat. Med. 27:1693), low = mean - √((mean - low₁)² + (mean - low₂)²), high likewise. The rest's variance is
counted in both ways, as in Owen's bootstrap, so that the interval is rather too wide than too narrow.

Over seeds it is the guarded interval of their means. Over examples it is Student's t of their means or, on each side
where that reaches further, t corrected for skewness by Hall's cubic transformation (Hall 1992, JRSS B 54:221), as
scores on which arms differ may be few and all of one sign. Where they are too few for either, there is no interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from normlab.stats import guarded
from normlab.stats.guarded import Array
from normlab.stats.paired import Interval

LEAST = 100  # examples, or blocks of a text
DIFFERING = 15.0  # effective number of examples that the variance must rest on, (Σr²)² / Σr⁴


@dataclass(frozen=True)
class TwoWay:
    """A mean difference, with the errors of seeds and examples.

    seed_error, example_error  standard error of the mean over seeds, and over examples
    interval                   of both together; infinite if equal seeds or too few differing examples allow none
    seeds_alone                the guarded interval over seeds, as if the examples were all there are
    """

    n_seeds: int
    n_examples: int
    mean: float
    seed_error: float
    example_error: float
    interval: Interval
    seeds_alone: Interval


def two_way(differences: ArrayLike, sizes: ArrayLike | None = None, alpha: float = 0.05) -> TwoWay:
    """The interval over seeds and examples.

    Args:
        differences: [seeds, examples], of scores.
        sizes: [examples], what each counts in the mean; None: all alike.
        alpha: one minus the level; at a look of a design, `Design.error`.

    Raises:
        ValueError: fewer than eight seeds or a hundred examples, another shape, or a value that is not a number.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 2:
        raise ValueError(f"differences are seeds by examples, not of shape {d.shape}")
    if d.shape[1] < LEAST:
        raise ValueError(f"an interval over examples needs at least {LEAST} of them, not {d.shape[1]}")
    weights = _weights(d.shape[1], sizes)
    rows = d @ weights
    low, high = limits(d, weights, alpha)
    return TwoWay(
        n_seeds=d.shape[0],
        n_examples=d.shape[1],
        mean=float(rows.mean()),
        seed_error=float(rows.std(ddof=1) / np.sqrt(len(rows))),
        example_error=float(_error(_residuals(d.mean(axis=0), weights))),
        interval=Interval(float(low), float(high), 1 - alpha),
        seeds_alone=guarded.interval(rows, alpha),
    )


def in_blocks(differences: ArrayLike, sizes: ArrayLike, blocks: int = LEAST) -> tuple[Array, Array]:
    """Consecutive examples put together, for those whose neighbours are alike, such as windows of one text.

    With as many blocks, each as long as it can be, their means are close to independent (batch means).

    Args:
        differences: [seeds, examples].
        sizes: [examples].

    Returns:
        [seeds, blocks] and [blocks].
    """
    d, n = np.asarray(differences, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    starts = np.arange(min(blocks, d.shape[-1])) * d.shape[-1] // min(blocks, d.shape[-1])
    summed = np.add.reduceat(n, starts)
    return np.add.reduceat(d * n, starts, axis=-1) / summed, summed


def limits(d: Array, weights: Array, alpha: float) -> tuple[Array, Array]:
    """Low and high of each study, [..., seeds, examples] → [...]; weights [examples] sum to 1."""
    return limits_of(d @ weights, d.mean(axis=-2), weights, alpha)


def limits_of(rows: Array, columns: Array, weights: Array, alpha: float) -> tuple[Array, Array]:
    """The same from the means over examples, [..., seeds], and over seeds, [..., examples]."""
    mean = rows.mean(axis=-1)
    low, high = guarded.limits(rows, alpha)
    below, above = _reach(_residuals(columns, weights), alpha)
    return mean - np.hypot(mean - low, below), mean + np.hypot(high - mean, above)


def _residuals(columns: Array, weights: Array) -> Array:
    """Each example's part of the error of a mean weighted by sizes, as of a ratio estimator (Cochran 1977, 6.4)."""
    return weights * (columns - (columns @ weights)[..., None])


def _error(rest: Array) -> Array:
    """Standard error over examples."""
    n = rest.shape[-1]
    return np.asarray(np.sqrt(n / (n - 1) * (rest * rest).sum(axis=-1)))


def _reach(rest: Array, alpha: float) -> tuple[Array, Array]:
    """How far the limits over examples lie below and above the mean; infinite where too few examples differ."""
    n, error = rest.shape[-1], _error(rest)
    squares = rest * rest
    square, third, fourth = squares.sum(axis=-1), (squares * rest).sum(axis=-1), (squares * squares).sum(axis=-1)
    enough = square**2 >= DIFFERING * fourth
    slope = third / np.where(square > 0, square, 1.0) ** 1.5  # the skewness by √n
    t = -special.stdtrit(n - 1, alpha / 2)
    below, above = (np.maximum(t, sign * _corrected(sign * t, slope)) * error for sign in (1.0, -1.0))
    return np.where(enough, below, np.inf), np.where(enough, above, np.inf)


def _corrected(x: float, slope: Array) -> Array:
    """The t whose transform t + a t² / 3 + a² t³ / 27 + a / 6 is x, with a the skewness by √n."""
    a = np.where(np.abs(slope) < 1e-9, 1e-9, slope)
    return np.asarray(3 / a * (np.cbrt(1 + a * x - a * a / 6) - 1))


def _weights(examples: int, sizes: ArrayLike | None) -> Array:
    if sizes is None:
        return np.full(examples, 1 / examples)
    weights = np.asarray(sizes, dtype=np.float64)
    if weights.shape != (examples,) or not (weights > 0).all():
        raise ValueError(f"sizes are those of {examples} examples, all above 0")
    return np.asarray(weights / weights.sum())
