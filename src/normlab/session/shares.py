"""One of several processes that compute a batch's gradients together, each on its share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from normlab.config.schema import Sizes
from normlab.models.build import build_model


@dataclass(frozen=True)
class SharedBatch:
    """A batch and the network that reads it.

    norm, model  as in the config
    seed         of the initial values
    inputs       [B, …]
    mask         bool [B, T] or None
    cotangent    v, in the outputs' shape: gradients are those of E = Σ v · y
    """

    norm: dict[str, Any]
    model: dict[str, Any]
    sizes: Sizes
    seed: int
    inputs: Tensor
    mask: Tensor | None
    cotangent: Tensor | None = None

    def share(self, low: int, high: int) -> SharedBatch:
        """The same for the examples low, …, high - 1."""
        mask, cotangent = (None if each is None else each[low:high] for each in (self.mask, self.cotangent))
        return replace(self, inputs=self.inputs[low:high], mask=mask, cotangent=cotangent)


@dataclass(frozen=True)
class Solution:
    """The result: outputs, the gradient of each parameter, and all buffers (running statistics)."""

    outputs: Tensor
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]


torch.serialization.add_safe_globals([SharedBatch, Solution, Sizes])  # everything that one process writes for another


def solve(problem: SharedBatch, sync: bool | None) -> Solution:
    """One forward and backward pass in training mode, float64.

    Args:
        problem: if it has no v, v is 1 everywhere.
        sync: batch norm's option; None: another norm, without this option.
    """
    torch.manual_seed(problem.seed)
    norm = problem.norm if sync is None else {**problem.norm, "sync": sync}
    model = build_model(norm, problem.model, problem.sizes).double().train()
    y = model(problem.inputs, problem.mask)
    y.backward(torch.ones_like(y) if problem.cotangent is None else problem.cotangent)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Solution(y.detach(), gradients, {name: buffer.clone() for name, buffer in model.named_buffers()})


def work(rank: int, folder: str, seconds: int) -> None:
    """Solve this process's share of every case in `folder`, and write the solutions there."""
    torch.set_num_threads(1)
    place = Path(folder)
    dist.init_process_group(
        "gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=seconds)
    )
    problem, cases = torch.load(place / "problem.pt", weights_only=True)
    solutions = {}
    for name, (border, sync) in cases.items():
        low, high = (0, border) if rank == 0 else (border, len(problem.inputs))
        solutions[name] = solve(problem.share(low, high), sync)
    torch.save(solutions, place / f"{rank}.pt")
    dist.destroy_process_group()
