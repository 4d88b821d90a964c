"""Batch norm's train–inference discrepancy: the distance of a batch's statistics from the running ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from normlab.norms.moments import moments
from normlab.norms.running import RunningNorm


def discrepancies(norm: RunningNorm, x: Tensor, mask: Tensor | None = None, step: int | None = None) -> Tensor:
    """The discrepancy of every set of statistics of x, and its expectation by chance alone: [4, sets].

    With μ_B and σ_B of a set (a channel; with `nbs`, of a chunk; with statistics per step, at a time step) and the
    running μ and σ, the rows are

        |μ - μ_B| / σ_B        and  |σ / σ_B - 1|,
        `chance_mean(n)`       and  `chance_var(n)`, with n the real entries of the set.

    σ² is the variance plus eps, as the norm divides by it. Sets of fewer than two entries, and steps that have no
    their own running statistics, are left out. Means over the sets are the discrepancies of Wang et al. 2022,
    Understanding the Failure of Batch Normalization for Transformers in NLP, arXiv:2210.05153.

    Args:
        norm: with the running statistics to compare with.
        x: its input, see `Norm`.
        mask: true where x is real.
        step: the time step, if x is a single one.
    """
    x = x.detach().double()
    if norm.per_position and step is not None:
        x, mask = x.unsqueeze(1), None if mask is None else mask.unsqueeze(1)
    start, length = step or 0, x.shape[1] if norm.per_position else 1
    axes = (0,) if norm.per_position else norm.set_axes
    running_mean, running_var = (values.double() for values in norm.running(start, length))
    spread = (running_var + norm.eps).sqrt()
    steps = norm.running_mean.shape[0] if norm.per_position else 1
    own = (torch.arange(start, start + length, device=x.device) < steps)[:, None]
    if mask is not None:
        mask = mask.unsqueeze(1 if norm.channels_first else -1)
    size = norm.nbs or len(x)
    found = []
    for first in range(0, len(x), size):
        chunk = slice(first, first + size)
        sets = moments(x[chunk], axes, None if mask is None else mask[chunk])
        n, mean, var = (
            values.expand_as(sets.mean).reshape(length, -1) for values in (sets.n, sets.mean, sets.variance)
        )
        sigma = (var + norm.eps).sqrt()
        rows = torch.stack(
            [(running_mean - mean).abs() / sigma, (spread / sigma - 1).abs(), chance_mean(n), chance_var(n)]
        )
        found.append(rows[:, (n >= 2) & own])
    return torch.cat(found, 1)


def chance_mean(n: Tensor) -> Tensor:
    """E |μ - μ_B| / σ_B for n independent Gaussian values of mean μ, where the running mean is μ.

    With ν = n - 1, (μ_B - μ) / σ_B is Student's t over √ν. So it is

        E |t_ν| / √ν = 2 Γ((ν + 1) / 2) / (√π Γ(ν / 2) (ν - 1)),

    about √(2 / (π n)), and infinite for n = 2. Lag and noise of the running statistics are not included: a moving
    average of momentum m alone would add a factor √(2 / (2 - m)), 1.026 for 0.1.
    """
    nu = n.double() - 1
    ratio = (torch.lgamma((nu + 1) / 2) - torch.lgamma(nu / 2)).exp()
    return torch.where(nu > 1, 2 * ratio / (math.sqrt(math.pi) * (nu - 1)), torch.inf)


def chance_var(n: Tensor) -> Tensor:
    """E |σ / σ_B - 1| for n independent Gaussian values of variance σ², where the running variance is σ².

    σ_B² = σ² X / n with X ~ χ² of ν = n - 1 degrees, and E[X^(-1/2); X > n] is P(χ²_(ν-1) > n) times
    E[X^(-1/2)] = Γ((ν - 1) / 2) / (√2 Γ(ν / 2)). So with a = √n E[X^(-1/2)] it is

        a - 1 + 2 P(χ²_ν > n) - 2 a P(χ²_(ν-1) > n),

    about 1 / √(π n), and infinite for n = 2.
    """
    n = n.double()
    nu = n - 1
    wide = nu > 1
    nu = torch.where(wide, nu, 2.0)
    a = n.sqrt() * (torch.lgamma((nu - 1) / 2) - torch.lgamma(nu / 2)).exp() / math.sqrt(2)
    above, above_less = (torch.special.gammaincc(degrees / 2, n / 2) for degrees in (nu, nu - 1))
    return torch.where(wide, a - 1 + 2 * above - 2 * a * above_less, torch.inf)
