"""No normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from normlab.norms.base import Layout, Norm


class NoNorm(Norm):
    """y = x, without parameters: the control of every comparison. No statistics in any layout."""

    layouts = ("BC", "BCHW", "BTC")
    causal = True
    nearest = "none"

    unit: Tensor

    def __init__(
        self,
        num_features: int,
        layout: Layout,
        parts: int = 1,
        positions: int | None = None,
        bias: bool = True,
        gain_init: float | None = None,
    ) -> None:
        super().__init__(num_features, layout, parts, positions, bias, gain_init, affine=False)
        self.register_buffer("unit", torch.ones(num_features), persistent=False)

    def eval_affine(self, step: int | None = None) -> tuple[Tensor, Tensor]:
        """Scale 1, shift 0."""
        del step
        return self.unit, torch.zeros_like(self.unit)

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """x itself."""
        del mask, step
        return x
