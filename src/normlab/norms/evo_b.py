"""EvoNorm-B0."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from normlab.norms.base import Epsilon
from normlab.norms.moments import moments
from normlab.norms.pooled import PooledNorm


class EvoNormB(PooledNorm):
    """y = gain · x / max(√(σ_b² + eps), v · x + √(σ_i² + eps)) + bias, with a learnt v a channel.

    σ_b² is the variance of a channel over a batch, in evaluation the running one; σ_i² that of a channel of an example.
    Statistics over: `BC` and `BTC` refused · `BCHW` B, H, W for σ_b, H, W for σ_i. It is norm and activation in one, so
    `model.activation=identity` is the paper's network. As in batch norm, the running variance is unbiased.

    Source: EvoNorm-B0 in Liu et al. 2020, Evolving Normalization-Activation Layers, arXiv:2004.02967, table 2.

    Args:
        site, named: the site, see `Norm`; `parts` has no effect.
        eps: added to the variances.
        momentum: weight of the newest statistics in the running ones.
        evaluation: as in batch norm.
        nbs: as in batch norm.
        sync: as in batch norm.
    """

    axes: ClassVar[dict[str, str]] = {"BCHW": "BHW"}
    layouts = ("BCL", "BCHW", "BCDHW")
    nearest = "layer"

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        momentum: Annotated[float, Field(gt=0, le=1)] | None = 0.1,
        evaluation: Literal["running", "precise", "batch"] = "running",
        nbs: Annotated[int, Field(gt=0)] | None = None,
        sync: bool = False,
        **named: Any,
    ) -> None:
        super().__init__(*site, eps=eps, momentum=momentum, evaluation=evaluation, nbs=nbs, sync=sync, **named)
        self.v = nn.Parameter(torch.ones(self.num_features))

    def output(self, x: Tensor, real: Tensor | None, mean: Tensor, var: Tensor) -> Tensor:
        """The larger of two scales divides x."""
        del mean
        own = moments(x, tuple(range(3, x.ndim)), real).variance
        scale = torch.maximum(torch.sqrt(var + self.eps), self._along_channels(self.v) * x + torch.sqrt(own + self.eps))
        return self.scale_and_shift(x / scale)
