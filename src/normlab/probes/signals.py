"""Numbers that describe a signal: its size, and how much its examples differ."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rms(x: Tensor) -> Tensor:
    """Root mean square over all entries: a scalar."""
    return x.detach().square().mean().sqrt()


def cosine(x: Tensor) -> float:
    """Mean cosine between two different examples of x [B, …]; NaN where one of them is 0 everywhere."""
    unit = nn.functional.normalize(x.detach().flatten(1), dim=1, eps=0.0)
    count = len(unit)
    return float((unit.sum(0).square().sum() - count) / (count * (count - 1)))


def stable_rank(x: Tensor) -> float:
    """‖A‖_F² / ‖A‖₂² of the centred examples A = x - mean over B, as a matrix [B, features].

    From 1 (all differences between examples are parallel) to B - 1: a rank to which small singular values don't count
    (Rudelson and Vershynin 2007, arXiv:math/0503442). NaN if all examples are equal or any is not finite.
    """
    flat = x.detach().flatten(1).double()
    centred = flat - flat.mean(0)
    gram = centred @ centred.T  # [B, B]: its eigenvalues are A's squared singular values
    rounding = 1e-24 * flat.square().sum()
    if not bool(gram.trace() > rounding) or not bool(gram.isfinite().all()):
        return float("nan")
    return float(gram.trace() / torch.linalg.eigvalsh(gram)[-1])


def dead_share(x: Tensor, mask: Tensor | None = None) -> float:
    """Share of units whose relu is inactive for the whole batch: x ≤ 0 wherever it is real.

    Args:
        x: what the relu reads, [B, C, H, W] (a unit is a channel), [B, T, C] or [B, C].
        mask: bool [B, T], true where real; only sequences have one.
    """
    x = x.detach()
    units = x.movedim(1, -1) if x.ndim == 4 else x
    rows = units.flatten(0, -2) if mask is None or x.ndim != 3 else units[mask]
    return float((rows.amax(0) <= 0).double().mean())
