"""Instance norm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from normlab.norms.base import Epsilon, Norm, axes_of
from normlab.norms.moments import standardise


class InstanceNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each channel of an example.

    Statistics over: `BC` refused, there is one value · `BCHW` H, W · `BTC` T, so a position sees later ones.

    Source: Ulyanov, Vedaldi and Lempitsky 2016, Instance Normalization, arXiv:1607.08022.
    """

    axes: ClassVar[dict[str, str]] = {"BCHW": "HW", "BTC": "T"}
    layouts = ("BCL", "BCHW", "BCDHW", "BTC")
    causal = False
    nearest = "layer"

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each channel of each example alone."""
        del step
        if mask is not None:
            real = mask.unsqueeze(self._channel_axis)
            return self.scale_and_shift(standardise(x, axes_of(self.pooled, self.layout), self.eps, real))
        images = x if self.channels_first else x.transpose(1, 2)
        y = torch.group_norm(images, self.num_features, self.gain, self.bias, self.eps)
        return y if self.channels_first else y.transpose(1, 2)
