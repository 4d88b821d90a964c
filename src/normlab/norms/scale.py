"""Scale norm."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32


class ScaleNorm(Norm):
    """y = length · x / √(‖x‖² + d · eps), over the d channels of a position, with one learnt scalar, the length.

    Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C at each pixel · `BTC` C. The length
    starts at √d, times `gain_init` where a site gives one, as if y had that gain; all blocks share it. No bias.
    The paper has no eps, its code bounds ‖x‖ from below; here eps is added to the mean square, as in RMS norm.

    Source: Nguyen and Salazar 2019, Transformers without Tears, arXiv:1910.05895, eq. 5.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "C", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.gain = self.bias = None
        self.root = math.sqrt(self.num_features // self.parts)
        initial = self.root * (1.0 if self.gain_init is None else float(self.gain_init))
        self.length = nn.Parameter(torch.full((1,), initial))
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each position alone."""
        del step
        blocks, _ = self.split(at_least_float32(x), mask, self.parts)
        mean_square = blocks.square().mean(self.axes_within_blocks("C"), keepdim=True)
        return (blocks * (self.length / self.root * torch.rsqrt(mean_square + self.eps))).reshape(x.shape)
