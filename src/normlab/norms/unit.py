"""Unit norm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32


class UnitNorm(Norm):
    """y = d^(k/2) · x / √(‖x‖² + d · eps), over the d channels of a position, without gain and bias.

    Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C at each pixel · `BTC` C. k is to
    be tuned: a smaller one makes attention more even, and 1 is `simple_rms`, but in images. The paper has no eps.

    Source: Huang et al. 2024, UnitNorm, arXiv:2405.15903.

    Args:
        site, named: the site, see `Norm`.
        k: the length of y is d^(k/2).
        eps: added to the mean square, as in RMS norm.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "C", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        k: Annotated[float, Field(ge=-4, le=4)] = 1.0,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.gain = self.bias = None
        self.length = (self.num_features // self.parts) ** ((k - 1) / 2)
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each position alone."""
        del step
        blocks, _ = self.split(at_least_float32(x), mask, self.parts)
        mean_square = blocks.square().mean(self.axes_within_blocks("C"), keepdim=True)
        return (blocks * (self.length * torch.rsqrt(mean_square + self.eps))).reshape(x.shape)
