"""No normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normlab.norms.base import Norm


class NoNorm(Norm):
    """y = x, without parameters: the control of every comparison. No statistics in any layout."""

    nearest = "none"

    unit: Tensor

    def __init__(self, *site: Any, **named: Any) -> None:
        super().__init__(*site, **named)
        self.gain = self.bias = None
        self.register_buffer("unit", torch.ones(self.num_features), persistent=False)

    def eval_affine(self, step: int | None = None) -> tuple[Tensor, Tensor]:
        """Scale 1, shift 0."""
        del step
        return self.unit, torch.zeros_like(self.unit)

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """x itself."""
        del mask, step
        return x
