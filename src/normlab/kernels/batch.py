"""Per-step batch norm inside the fused recurrence: batch statistics in training, fixed ones in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from normlab.kernels.arguments import Moments, Pool, Result, Site
from normlab.kernels.recurrence import recurrence
from normlab.norms import moments
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm

Norms = tuple[Norm | None, Norm | None, Norm | None]  # N_x, N_h and N_c


def run(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    bias: Tensor,
    norms: Norms,
    state: tuple[Tensor, Tensor],
    mask: Tensor | None,
) -> Tensor:
    """The hidden state after each step, [B, T, H].

    In training the first steps take the batch's statistics, and move the running ones; those beyond the sites'
    last position take the last running ones as they then are. Evaluation takes running statistics at all steps,
    unless norm.evaluation=batch.
    """
    present = [norm for norm in norms if isinstance(norm, BatchNorm)]
    first, steps = present[0], x.shape[1]
    if not (first.training or first.evaluation == "batch"):
        return _with_running(x, weight_x, weight_h, bias, norms, state, mask, 0).h
    own = min(steps, len(first.running_mean))
    early = None if mask is None else mask[:, :own]
    done = _with_batch(x[:, :own], weight_x, weight_h, bias, norms, state, early)
    if first.training:
        for norm, found in zip(norms, done.moments, strict=True):
            if isinstance(norm, BatchNorm) and found is not None:
                _update(norm, found, early, len(x))
    if own == steps:
        return done.h
    late = None if mask is None else mask[:, own:]
    after = (done.h[:, -1], done.c)
    return torch.cat([done.h, _with_running(x[:, own:], weight_x, weight_h, bias, norms, after, late, own).h], 1)


def _with_batch(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    bias: Tensor,
    norms: Norms,
    state: tuple[Tensor, Tensor],
    mask: Tensor | None,
) -> Result:
    def site(norm: Norm | None) -> tuple[Site, Moments | None]:
        if not isinstance(norm, BatchNorm):
            return Site(), None
        return Site("batch", norm.gain, norm.bias), Moments(*norm.running(0, x.shape[1]))

    first = next(norm for norm in norms if isinstance(norm, BatchNorm))
    (at_x, running_x), (at_h, running_h), (at_c, running_c) = (site(norm) for norm in norms)
    pool = Pool(first.nbs or len(x), (running_x, running_h, running_c))
    return recurrence(x, weight_x, weight_h, bias, (at_x, at_h, at_c), state, mask, eps=first.eps, pool=pool)


def _with_running(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    bias: Tensor,
    norms: Norms,
    state: tuple[Tensor, Tensor],
    mask: Tensor | None,
    start: int,
) -> Result:
    """Fixed statistics make a norm a scale and a shift a step: the gates' shifts join the bias."""

    def site(norm: Norm | None) -> Site:
        return Site("none", *norm.running_affine(start, x.shape[1])) if isinstance(norm, BatchNorm) else Site()

    at_x, at_h, at_c = (site(norm) for norm in norms)
    shifts = [shift for shift in (at_x.bias, at_h.bias) if shift is not None]
    gates = sum(shifts, bias.expand(x.shape[1], -1))
    return recurrence(x, weight_x, weight_h, gates, (at_x, at_h, at_c), state, mask)


def _update(norm: BatchNorm, found: Moments, mask: Tensor | None, examples: int) -> None:
    size = min(norm.nbs or examples, examples)
    if mask is None and size > 1 and examples % size == 0:
        norm.update_full(found.mean, found.var, size)
    else:
        norm.update(_counted(found, mask, examples, size), 0)


def _counted(found: Moments, mask: Tensor | None, examples: int, size: int) -> moments.Moments:
    """Moments [K, T, C] with the number of real examples in each chunk of at most `size`."""
    real = found.mean.new_ones(examples, found.mean.shape[1]) if mask is None else mask.to(found.mean.dtype)
    chunks = torch.nn.functional.pad(real, (0, 0, 0, -examples % size)).unflatten(0, (-1, size))
    n = chunks.sum(1)[..., None]  # [K, T, 1]
    return moments.Moments(n, found.mean, found.var * n)
