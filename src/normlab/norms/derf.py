"""Dynamic erf."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normlab.kernels import rows
from normlab.norms.base import Norm
from normlab.norms.eager import eager


class DynamicErf(Norm):
    """y = gain · erf(alpha · x + shift) + bias, with a learnt scalar alpha and shift. No statistics in any layout.

    Source: Chen et al. 2025, Stronger Normalization-Free Transformers, arXiv:2512.10938.

    Args:
        site, named: the site, see `Norm`.
        alpha_init: initial alpha; the shift starts at 0.
    """

    nearest = "derf"

    def __init__(
        self,
        *site: Any,
        alpha_init: float = 0.5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.alpha = nn.Parameter(torch.full((1,), float(alpha_init)))
        self.shift = nn.Parameter(torch.zeros(1))
        self.kernel = rows.choose()

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Elementwise."""
        del mask, step
        alpha, shift = self.alpha, self.shift
        if self.kernel == "compiled" and x.dtype == alpha.dtype and eager(x):
            return rows.erf(x, alpha, shift, self.gain, self.bias, channels_first=self.channels_first)
        return self.scale_and_shift(torch.erf(alpha * x + shift))
