"""Counts, means and squared deviations over chosen axes, with padding left out and exact merging."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Moments(NamedTuple):
    """Moments of sets of values.

    n     number of values in a set
    mean  their mean
    m2    sum of squared deviations from it
    """

    n: Tensor
    mean: Tensor
    m2: Tensor

    @property
    def variance(self) -> Tensor:
        """Biased (divided by n); 0 for an empty set."""
        return self.m2 / self.n.clamp(min=1)


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32 if it has half precision, which is too low for statistics."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def count(x: Tensor, axes: tuple[int, ...], real: Tensor) -> Tensor:
    """Number of real entries of x over `axes`; `real` is 1 or 0 and has axes of length 1 where it is constant."""
    repeats = math.prod([x.shape[axis] // real.shape[axis] for axis in axes])
    return repeats * real.sum(axes, keepdim=True)


def average(x: Tensor, axes: tuple[int, ...], mask: Tensor | None = None) -> Tensor:
    """Mean of the real entries of x over `axes`, which stay as axes of length 1; 0 if there are none."""
    if mask is None:
        return x.mean(axes, keepdim=True)
    real = mask.to(x.dtype)
    return (x * real).sum(axes, keepdim=True) / count(x, axes, real).clamp(min=1)


def moments(x: Tensor, axes: tuple[int, ...], mask: Tensor | None = None) -> Moments:
    """Moments of the real entries of x over `axes`, which stay as axes of length 1.

    Deviations are taken from the mean before they are squared, so nothing cancels.

    Args:
        x: any shape, float32 or wider; padding has any finite value.
        axes: what one set of statistics pools.
        mask: bool, as many axes as x, of length 1 where it is constant; true where real.
    """
    if mask is None:
        mean = x.mean(axes, keepdim=True)
        n = x.new_full((), x.numel() / max(mean.numel(), 1))
        return Moments(n.expand_as(mean), mean, (x - mean).square().sum(axes, keepdim=True))
    real = mask.to(x.dtype)  # a product costs a sixth of torch.where on a CPU
    n = count(x, axes, real)
    mean = (x * real).sum(axes, keepdim=True) / n.clamp(min=1)
    return Moments(n.expand_as(mean), mean, ((x - mean) * real).square().sum(axes, keepdim=True))


def merge(sets: Moments, axis: int) -> Moments:
    """Moments of the union of the disjoint sets along `axis`, which is removed (Chan et al. 1979)."""
    n = sets.n.sum(axis, keepdim=True)
    mean = (sets.n * sets.mean).sum(axis, keepdim=True) / n.clamp(min=1)
    m2 = (sets.m2 + sets.n * (sets.mean - mean).square()).sum(axis)
    return Moments(n.squeeze(axis), mean.squeeze(axis), m2)


def standardise(x: Tensor, axes: tuple[int, ...], eps: float, mask: Tensor | None = None) -> Tensor:
    """(x - mean) / sqrt(variance + eps), with statistics of the real entries over `axes`."""
    x = at_least_float32(x)
    sets = moments(x, axes, mask)
    return (x - sets.mean) * torch.rsqrt(sets.variance + eps)


def standardise_blocks(x: Tensor, blocks: int, eps: float) -> Tensor:
    """The same over each of `blocks` equal blocks of x's last axis, by a fused kernel."""
    width = x.shape[-1] // blocks
    return functional.layer_norm(x.unflatten(-1, (blocks, width)), (width,), eps=eps).flatten(-2)
