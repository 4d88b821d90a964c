"""RMS norm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from normlab.kernels import rows
from normlab.norms.base import Epsilon, Norm
from normlab.norms.eager import eager
from normlab.norms.moments import at_least_float32, average


class RMSNorm(Norm):
    """y = gain · x / √(mean(x²) + eps) + bias: layer norm without centring, and by default without bias.

    Mean over, in each of `parts` blocks of channels: `BC` C · `BCHW` C, H, W · `BTC` C.

    Source: Zhang and Sennrich 2019, Root Mean Square Layer Normalization, arXiv:1910.07467.
    """

    gain: Tensor

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "CHW", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        with_bias: bool = False,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        if not with_bias:
            self.bias = None
        self.eps = eps
        self.kernel = rows.choose()

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone."""
        del step
        gain, bias = self.gain, self.bias  # once, as a module takes a while to find them
        images = self.channels_first  # whose padding lies within their statistics
        same = x.dtype == gain.dtype
        if self.kernel == "compiled" and same and not (images and mask is not None) and eager(x):
            rescale = rows.rescale_images if images else rows.rescale
            return rescale(x, gain, bias, self.parts, self.eps)
        if same and not images and self.parts == 1 and bias is None:
            # one kernel on GPUs; on CPUs neither faster nor slower than the formula below
            return functional.rms_norm(x, (self.num_features,), gain, self.eps)
        blocks, real = self.split(at_least_float32(x), mask, self.parts)
        mean_square = average(blocks.square(), self.block_axes, real)
        return self.scale_and_shift((blocks * torch.rsqrt(mean_square + self.eps)).reshape(x.shape))
