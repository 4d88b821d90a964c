"""Layer norm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from normlab.kernels import rows
from normlab.norms.base import Epsilon, Norm
from normlab.norms.eager import eager
from normlab.norms.moments import standardise, standardise_blocks


class LayerNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each example, and at each time step.

    Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C, H, W (group norm with one
    group, one gain per channel) · `BTC` C.

    Source: Ba, Kiros and Hinton 2016, Layer Normalization, arXiv:1607.06450.
    """

    gain: Tensor

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "CHW", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.eps = eps
        # PyTorch's own kernel has no parts
        self.kernel = rows.choose() if self.parts > 1 and not self.channels_first else None

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone; only images have padding within their statistics."""
        del step
        gain, bias = self.gain, self.bias  # once, as a module takes a while to find them
        if not self.channels_first and self.parts == 1:
            return functional.layer_norm(x, (self.num_features,), gain, bias, self.eps)
        if self.kernel == "compiled" and x.dtype == gain.dtype and eager(x):
            return rows.standardise(x, gain, bias, self.parts, self.eps)
        if not self.channels_first:
            return self.scale_and_shift(standardise_blocks(x, self.parts, self.eps))
        if mask is None:
            return torch.group_norm(x, self.parts, gain, bias, self.eps)
        blocks, real = self.split(x, mask, self.parts)
        return self.scale_and_shift(standardise(blocks, self.block_axes, self.eps, real).flatten(1, 2))
