"""Layer norm over channels alone, also in images."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import standardise_blocks


class LayerChannelNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of the channels at each position.

    Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C at each pixel · `BTC` C.

    Source: Ba et al. 2016, arXiv:1607.06450; in images as in ConvNeXt, Liu et al. 2022, arXiv:2201.03545.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "C", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
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
