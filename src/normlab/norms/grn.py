"""Global response norm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32


class GlobalResponseNorm(Norm):
    """y = gain · x · n + bias + x with n = g / (mean(g) + eps), where g = ‖x‖ of each channel of an example.

    Statistics over: `BC` and `BTC` refused · `BCHW` H, W for g, and C for the mean of g. Gain and bias start at 0,
    so the norm starts as the identity: it makes channels compete, and bounds no signal. In ConvNeXt V2 it follows
    an activation, within a block that has a layer norm too.

    Source: Woo et al. 2023, ConvNeXt V2, arXiv:2301.00808, algorithm 1.

    Args:
        site, named: the site, see `Norm`; `parts` has no effect.
        eps: added to the mean of the lengths.
    """

    axes: ClassVar[dict[str, str]] = {"BCHW": "CHW"}
    layouts = ("BCL", "BCHW", "BCDHW")
    nearest = "layer"

    gain: Tensor

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-6,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        if self.gain_init is None:
            torch.nn.init.zeros_(self.gain)
        self.eps = eps

    @property
    def pooled_channels(self) -> int:
        """All: channels are compared with each other."""
        return self.num_features

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone."""
        del step
        wide = at_least_float32(x)
        seen, real = self.split(wide, mask, 1)
        if real is not None:
            seen = seen * real.to(seen.dtype)
        # n doesn't change with the size of x, but squares of large values would overflow
        largest = seen.detach().abs().amax(self.block_axes, keepdim=True).clamp(min=1e-30)
        g = torch.linalg.vector_norm(
            seen / largest, dim=self.axes_within_blocks(self.pooled.replace("C", "")), keepdim=True
        )
        n = g / (g.mean(self.axes_within_blocks("C"), keepdim=True) + self.eps / largest)
        return self.scale_and_shift(wide * n.flatten(1, 2)) + wide
