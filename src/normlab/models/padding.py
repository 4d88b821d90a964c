"""Operations on padded sequences. Masks are bool [B, T], a sequence's real steps first; None: all real."""

from __future__ import annotations

import torch
from torch import Tensor


def reverse(x: Tensor, mask: Tensor | None) -> Tensor:
    """x [B, T, D] with the real steps of every sequence in reverse order and its padding in place."""
    if mask is None:
        return x.flip(1)
    lengths = mask.sum(1, keepdim=True)
    t = torch.arange(x.shape[1], device=x.device)
    index = torch.where(t < lengths, lengths - 1 - t, t)
    return x.gather(1, index[..., None].expand_as(x))


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over the real steps of x [B, T, D]; 0 if a sequence has none."""
    if mask is None:
        return x.mean(1)
    return torch.where(mask[..., None], x, 0.0).sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def last_real(x: Tensor, mask: Tensor | None) -> Tensor:
    """x [B, T, D] at each sequence's last real step, [B, D]; at the first step if there is no real one."""
    if mask is None:
        return x[:, -1]
    index = (mask.sum(1) - 1).clamp(min=0)
    return x.gather(1, index[:, None, None].expand(-1, 1, x.shape[2])).squeeze(1)
