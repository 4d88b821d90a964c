"""Dynamic tanh."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normlab.kernels import rows
from normlab.norms.base import Norm
from normlab.norms.eager import eager


class DynamicTanh(Norm):
    """y = gain · tanh(alpha · x) + bias, with one learnt scalar alpha. No statistics in any layout.

    Source: Zhu et al. 2025, Transformers without Normalization, arXiv:2503.10622.
    """

    nearest = "dyt"

    def __init__(
        self,
        *site: Any,
        alpha_init: float = 0.5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.alpha = nn.Parameter(torch.full((1,), float(alpha_init)))
        self.kernel = rows.choose()

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Elementwise."""
        del mask, step
        alpha = self.alpha
        if self.kernel == "compiled" and x.dtype == alpha.dtype and eager(x):
            return rows.tanh(x, alpha, self.gain, self.bias, channels_first=self.channels_first)
        return self.scale_and_shift(torch.tanh(alpha * x))
