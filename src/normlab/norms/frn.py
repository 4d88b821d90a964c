"""Filter response norm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32, average


class FilterResponseNorm(Norm):
    """y = max(gain · x / √(mean(x²) + eps) + bias, tau), with a learnt threshold tau a channel.

    Mean over: `BC` and `BTC` refused · `BCHW` H, W of each channel of an example. The maximum (a thresholded linear
    unit) stands for the activation, so `model.activation=identity` is the paper's network; `threshold=false` leaves
    it out. The paper's learnt part of eps, for maps of one pixel, is left out: such a site is refused.

    Source: Singh and Krishnan 2020, Filter Response Normalization Layer, arXiv:1911.09737.

    Args:
        site, named: the site, see `Norm`.
        eps: added to the mean square.
        threshold: whether there is a tau; it starts at 0, which is a relu.
    """

    axes: ClassVar[dict[str, str]] = {"BCHW": "HW"}
    layouts = ("BCL", "BCHW", "BCDHW")
    nearest = "layer"

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-6,
        threshold: bool = True,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.tau = nn.Parameter(torch.zeros(self.num_features)) if threshold else None
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each channel of each example alone."""
        del step
        blocks, real = self.split(at_least_float32(x), mask, 1)
        mean_square = average(blocks.square(), self.block_axes, real)
        y = self.scale_and_shift((blocks * torch.rsqrt(mean_square + self.eps)).reshape(x.shape))
        return y if self.tau is None else torch.maximum(y, self._along_channels(self.tau))
