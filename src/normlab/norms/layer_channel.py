"""Layer norm over channels alone, also in images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from normlab.norms.base import Layout, Norm
from normlab.norms.moments import standardise_blocks


class LayerChannelNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of the channels at each position.

    Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C at each pixel · `BTC` C.

    Source: Ba et al. 2016, arXiv:1607.06450; in images as in ConvNeXt, Liu et al. 2022, arXiv:2201.03545.
    """

    layouts = ("BC", "BCHW", "BTC")
    causal = True

    def __init__(
        self,
        num_features: int,
        layout: Layout,
        parts: int = 1,
        positions: int | None = None,
        bias: bool = True,
        gain_init: float | None = None,
        *,
        eps: Annotated[float, Field(gt=0)] = 1e-5,
    ) -> None:
        super().__init__(num_features, layout, parts, positions, bias, gain_init)
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each position alone."""
        del mask, step
        channels_last = x.movedim(self._channel_axis, -1)
        if self.parts == 1:
            y = functional.layer_norm(channels_last, (self.num_features,), self.gain, self.bias, self.eps)
            return y.movedim(-1, self._channel_axis)
        blocks = standardise_blocks(channels_last, self.parts, self.eps)
        return self.scale_and_shift(blocks.movedim(-1, self._channel_axis))
