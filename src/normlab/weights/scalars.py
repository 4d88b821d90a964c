"""Residual branches that need no norm: Fixup and SkipInit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Init = Literal["he", "fixup", "skipinit"]


class Scale(nn.Module):
    """x times one learnt number."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((1,), start))

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape → the same shape."""
        return x * self.factor


class Shift(nn.Module):
    """x plus one learnt number, at first 0."""

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape → the same shape."""
        return x + self.offset


def branch_parts(init: Init) -> tuple[nn.Module, nn.Module, nn.Module]:
    """What a branch of two convolutions has before each of them, and at its end. No statistics.

    SkipInit (De and Smith 2020, arXiv:2002.10444): x + s · f(x), with only a scale s at the end, which starts at 0.
    Fixup (Zhang et al. 2019, arXiv:1901.09321): x + s · conv₂(act(conv₁(x + a)) + b), with shifts a and b before the
    convolutions, and a scale s at the end that starts at 1; the shifts after convolutions and before the output layer
    are the biases that these layers have anyway.
    """
    if init == "fixup":
        return Shift(), Shift(), Scale(1.0)
    return nn.Identity(), nn.Identity(), Scale(0.0) if init == "skipinit" else nn.Identity()


@torch.no_grad()
def shrink_branch(first: nn.Module, last: nn.Module, branches: int) -> None:
    """Fixup's initial weights of a branch of two layers: the first times branches^(-1/2), the last 0."""
    first.get_parameter("weight").mul_(branches**-0.5)
    nn.init.zeros_(last.get_parameter("weight"))
