"""Layer norm without gradient through its statistics."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32, moments


class DetachedLayerNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias as in layer norm, but μ and σ are constants in the backward pass.

    Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C, H, W · `BTC` C.

    Source: DetachNorm in Xu et al. 2019, Understanding and Improving Layer Normalization, arXiv:1911.07013.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "CHW", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone."""
        del step
        blocks, real = self.split(at_least_float32(x), mask, self.parts)
        sets = moments(blocks.detach(), self.block_axes, real)
        standard = (blocks - sets.mean) * torch.rsqrt(sets.variance + self.eps)
        return self.scale_and_shift(standard.reshape(x.shape))
