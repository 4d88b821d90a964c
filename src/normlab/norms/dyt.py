"""Dynamic tanh."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from normlab.norms.base import Layout, Norm


class DynamicTanh(Norm):
    """y = gain · tanh(alpha · x) + bias, with one learnt scalar alpha. No statistics in any layout.

    Source: Zhu et al. 2025, Transformers without Normalization, arXiv:2503.10622.
    """

    layouts = ("BC", "BCHW", "BTC")
    causal = True
    nearest = "dyt"

    def __init__(
        self,
        num_features: int,
        layout: Layout,
        parts: int = 1,
        positions: int | None = None,
        bias: bool = True,
        gain_init: float | None = None,
        *,
        alpha_init: float = 0.5,
    ) -> None:
        super().__init__(num_features, layout, parts, positions, bias, gain_init)
        self.alpha = nn.Parameter(torch.full((1,), float(alpha_init)))

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Elementwise."""
        del mask, step
        return self.scale_and_shift(torch.tanh(self.alpha * x))
