"""RMS norm without parameters."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32, average


class SimpleRMSNorm(Norm):
    """y = x / √(mean(x²) + eps), without gain and bias: √d · x / ‖x‖ over d values.

    Mean over, in each of `parts` blocks of channels: `BC` C · `BCHW` C, H, W · `BTC` C. The paper has no eps.

    Source: SRMSNorm in Qin et al. 2023, Scaling TransNormer to 175 Billion Parameters, arXiv:2307.14995, eq. 9.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "CHW", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.gain = self.bias = None
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone."""
        del step
        blocks, real = self.split(at_least_float32(x), mask, self.parts)
        mean_square = average(blocks.square(), self.block_axes, real)
        return (blocks * torch.rsqrt(mean_square + self.eps)).reshape(x.shape)
