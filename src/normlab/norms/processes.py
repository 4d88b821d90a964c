"""Exact merging of statistics over the processes of a distributed run."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from normlab.norms.moments import Moments, merge


def distributed() -> bool:
    """Is this process one of several?"""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def merge_processes(sets: Moments) -> Moments:
    """Moments of the union of all processes' sets, with gradients to every process.

    One collective in the forward pass and one in the backward pass. Shapes must be equal in all processes; counts
    needn't.
    """
    return merge(Moments(*_Gather.apply(torch.stack(sets)).unbind(1)), 0)


class _Gather(torch.autograd.Function):
    """[...] in each of W processes → [W, ...] in all. Losses add up over processes, so gradients do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        gathered = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(gathered, x.contiguous())
        return torch.stack(gathered)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        del ctx
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]
