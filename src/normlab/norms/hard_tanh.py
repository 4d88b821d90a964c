"""Dynamic hard tanh."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normlab.norms.base import Norm


class HardTanh(Norm):
    """y = gain · min(1, max(-1, alpha · x)) + bias, with one learnt scalar alpha. No statistics in any layout.

    The cheapest squashing function of the ablation of dynamic tanh; outside ±1/alpha it has no gradient at all.

    Source: Zhu et al. 2025, Transformers without Normalization, arXiv:2503.10622, section 6.

    Args:
        site, named: the site, see `Norm`.
        alpha_init: initial alpha.
    """

    nearest = "hard_tanh"

    def __init__(
        self,
        *site: Any,
        alpha_init: float = 0.5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.alpha = nn.Parameter(torch.full((1,), float(alpha_init)))

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Elementwise."""
        del mask, step
        return self.scale_and_shift((self.alpha * x).clamp(-1, 1))
