"""Per-step batch norm inside the fused recurrence: batch statistics in training, fixed ones in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from normlab.kernels.arguments import CellNorm, CellNorms, Pool, Sequences, States, StepStatistics, Weights
from normlab.kernels.recurrence import recurrence
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.moments import Moments

Norms = tuple[Norm | None, Norm | None, Norm | None]  # N_x, N_h and N_c


def run(sequences: Sequences, weights: Weights, norms: Norms) -> Tensor:
    """The hidden state after each step, [B, T, H].

    In training, steps up to the sites' last position use the batch's statistics, and update the running ones; later
    steps use the last position's updated running ones. Evaluation uses running statistics at all steps, unless
    norm.evaluation=batch.
    """
    first, steps = _batch_norm(norms), sequences.x.shape[1]
    if not (first.training or first.evaluation == "batch"):
        return _with_running(sequences, weights, norms, 0).h
    own = min(steps, len(first.running_mean))
    early = _steps(sequences, slice(own))
    done = _with_batch(early, weights, norms)
    if first.training:
        for norm, found in zip(norms, done.statistics, strict=True):
            if isinstance(norm, BatchNorm) and found is not None:
                _update(norm, found, early.mask, len(early.x))
    if own == steps:
        return done.h
    late = _steps(sequences, slice(own, None))._replace(h=done.h[:, -1], c=done.c)
    return torch.cat([done.h, _with_running(late, weights, norms, own).h], 1)


def _batch_norm(norms: Norms) -> BatchNorm:
    return next(norm for norm in norms if isinstance(norm, BatchNorm))


def _steps(sequences: Sequences, steps: slice) -> Sequences:
    mask = None if sequences.mask is None else sequences.mask[:, steps]
    return sequences._replace(x=sequences.x[:, steps], mask=mask)


def _with_batch(sequences: Sequences, weights: Weights, norms: Norms) -> States:
    def site(norm: Norm | None) -> tuple[CellNorm, StepStatistics | None]:
        if not isinstance(norm, BatchNorm):
            return CellNorm(), None
        return CellNorm("batch", norm.gain, norm.bias), StepStatistics(*norm.running(0, sequences.x.shape[1]))

    first = _batch_norm(norms)
    (at_x, running_x), (at_h, running_h), (at_c, running_c) = (site(norm) for norm in norms)
    pool = Pool(first.nbs or len(sequences.x), (running_x, running_h, running_c))
    return recurrence(sequences, weights, CellNorms(at_x, at_h, at_c, eps=first.eps, pool=pool))


def _with_running(sequences: Sequences, weights: Weights, norms: Norms, start: int) -> States:
    """With fixed statistics, a norm is a scale and a shift per step; the gates' shifts are added to the bias."""
    steps = sequences.x.shape[1]

    def site(norm: Norm | None) -> CellNorm:
        return CellNorm("none", *norm.running_affine(start, steps)) if isinstance(norm, BatchNorm) else CellNorm()

    at_x, at_h, at_c = (site(norm) for norm in norms)
    fixed = CellNorms(at_x, at_h, at_c)
    shifts = [site.bias for site in (fixed.x, fixed.h) if site.bias is not None]
    bias = sum(shifts, weights.bias.expand(steps, -1))
    return recurrence(sequences, weights._replace(bias=bias), fixed)


def _update(norm: BatchNorm, found: StepStatistics, mask: Tensor | None, examples: int) -> None:
    size = min(norm.nbs or examples, examples)
    if mask is None and size > 1 and examples % size == 0:
        norm.update_full(found.mean, found.var, size)
    else:
        norm.update(_counted(found, mask, examples, size), 0)


def _counted(found: StepStatistics, mask: Tensor | None, examples: int, size: int) -> Moments:
    """Moments [K, T, C] with the number of real examples in each chunk of at most `size`."""
    real = found.mean.new_ones(examples, found.mean.shape[1]) if mask is None else mask.to(found.mean.dtype)
    chunks = torch.nn.functional.pad(real, (0, 0, 0, -examples % size)).unflatten(0, (-1, size))
    n = chunks.sum(1)[..., None]  # [K, T, 1]
    return Moments(n, found.mean, found.var * n)
