"""Layer norm over channels alone, also in images."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from normlab.kernels import rows
from normlab.norms.base import Epsilon, Norm
from normlab.norms.eager import eager
from normlab.norms.moments import standardise_blocks

_POSITIONS = 16  # of fewer, a copy with the channels last is faster


class LayerChannelNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of the channels at each position.

    Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C at each pixel · `BTC` C.

    Source: Ba et al. 2016, arXiv:1607.06450; in images as in ConvNeXt, Liu et al. 2022, arXiv:2201.03545.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "C", "BTC": "C"}

    gain: Tensor

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.eps = eps
        # PyTorch's own kernel has no parts, and wants channels to be last in memory
        self.kernel = rows.choose() if self.parts > 1 or self.channels_first else None

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each position alone."""
        del mask, step
        gain, bias, axis = self.gain, self.bias, self._channel_axis
        compiled = self.kernel == "compiled" and x.dtype == gain.dtype and eager(x)
        if compiled and self.channels_first and x.is_contiguous() and x.shape[2:].numel() >= _POSITIONS:
            return rows.standardise_positions(x, gain, bias, self.parts, self.eps)
        channels_last = x.movedim(axis, -1)
        if self.parts == 1:
            return functional.layer_norm(channels_last, (self.num_features,), gain, bias, self.eps).movedim(-1, axis)
        if compiled:
            return rows.standardise(channels_last, gain, bias, self.parts, self.eps).movedim(-1, axis)
        return self.scale_and_shift(standardise_blocks(channels_last, self.parts, self.eps).movedim(-1, axis))
