"""AdaNorm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32, standardise


class AdaNorm(Norm):
    """y = scale · (1 - k · z) · z with z = (x - μ) / √(σ² + eps), without gain and bias.

    The factor scale · (1 - k · z) is a constant in the backward pass, as the paper asks for; so the gradient is not
    that of the formula. Statistics over, in each of `parts` blocks of channels: `BC` C · `BCHW` C, H, W · `BTC` C.

    Source: Xu et al. 2019, Understanding and Improving Layer Normalization, arXiv:1911.07013, eq. 8.

    Args:
        site, named: the site, see `Norm`.
        scale: C in the paper, the mean factor.
        k: how much the factor falls with z.
        eps: added to the variance.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "CHW", "BTC": "C"}

    def __init__(
        self,
        *site: Any,
        scale: Annotated[float, Field(gt=0)] = 1.0,
        k: float = 0.1,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.gain = self.bias = None
        self.scale = scale
        self.k = k
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone."""
        del step
        blocks, real = self.split(at_least_float32(x), mask, self.parts)
        z = standardise(blocks, self.block_axes, self.eps, real)
        factor = self.scale * (1 - self.k * z.detach())
        return (factor * z).reshape(x.shape)
