"""Instance norm."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from normlab.norms.base import Layout, Norm
from normlab.norms.moments import standardise


class InstanceNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each channel of an example.

    Statistics over: `BC` refused, there is one value · `BCHW` H, W · `BTC` T, so a position sees later ones.

    Source: Ulyanov, Vedaldi and Lempitsky 2016, Instance Normalization, arXiv:1607.08022.
    """

    layouts = ("BCHW", "BTC")
    causal = False
    nearest = "layer"

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

    @property
    def couples_positions(self) -> bool:
        """In sequences: a channel's statistics pool its time steps."""
        return self.layout == "BTC"

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each channel of each example alone."""
        del step
        if mask is not None:
            axes, real = ((2, 3), mask[:, None]) if self.layout == "BCHW" else ((1,), mask[..., None])
            return self.scale_and_shift(standardise(x, axes, self.eps, real))
        images = x if self.layout == "BCHW" else x.transpose(1, 2)
        y = torch.group_norm(images, self.num_features, self.gain, self.bias, self.eps)
        return y if self.layout == "BCHW" else y.transpose(1, 2)
