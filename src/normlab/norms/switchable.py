"""Switchable norm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from normlab.norms.base import Epsilon
from normlab.norms.moments import Moments, merge, moments
from normlab.norms.pooled import PooledNorm


class SwitchableNorm(PooledNorm):
    """y = gain · (x - Σ w_k μ_k) / √(Σ v_k σ_k² + eps) + bias: a learnt mixture of three norms' statistics.

    k is instance, layer and batch norm; w and v are softmaxes of three learnt numbers each, which start equal.
    Statistics over: `BC` and `BTC` refused · `BCHW` H, W, then C, H, W, then B, H, W, in evaluation the running ones.
    Variances are biased, as in the paper (its code has unbiased ones); the running variance is unbiased, as in batch
    norm.

    Source: Luo et al. 2018, Differentiable Learning-to-Normalize via Switchable Normalization, arXiv:1806.10779.

    Args:
        site, named: the site, see `Norm`; `parts` has no effect.
        eps: added to the variance.
        momentum: weight of the newest statistics in the running ones.
        evaluation: statistics of the batch norm in eval mode, as in batch norm; the paper's batch average is `precise`.
        nbs: as in batch norm.
        sync: as in batch norm.
    """

    axes: ClassVar[dict[str, str]] = {"BCHW": "BCHW"}
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
        self.mean_weight = nn.Parameter(torch.ones(3))
        self.var_weight = nn.Parameter(torch.ones(3))

    @property
    def pooled_channels(self) -> int:
        """All: the layer norm pools them."""
        return self.num_features

    def output(self, x: Tensor, real: Tensor | None, mean: Tensor, var: Tensor) -> Tensor:
        """Standardise with the mixture."""
        instance = moments(x, tuple(range(3, x.ndim)), real)
        layer = Moments(*(t.unsqueeze(2) for t in merge(instance, 2)))
        mu = _mixed(self.mean_weight, instance.mean, layer.mean, mean)
        sigma = _mixed(self.var_weight, instance.variance, layer.variance, var)
        return self.scale_and_shift((x - mu) * torch.rsqrt(sigma + self.eps))


def _mixed(weight: Tensor, instance: Tensor, layer: Tensor, batch: Tensor) -> Tensor:
    """Statistics of three norms, weighted by the softmax of `weight`."""
    w = torch.softmax(weight, 0)
    return w[0] * instance + w[1] * layer + w[2] * batch
