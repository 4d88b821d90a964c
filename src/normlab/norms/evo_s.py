"""EvoNorm-S0."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from normlab.config.schema import InputError
from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32, moments


class EvoNormS(Norm):
    """y = gain · x · sigmoid(v · x) / √(σ² + eps) + bias, with σ² of each group of channels, and a learnt v a channel.

    Statistics over: `BC` and `BTC` refused · `BCHW` C/G, H, W, in each of the G = `groups` groups. It is norm and
    activation in one, so `model.activation=identity` is the paper's network.

    Source: EvoNorm-S0 in Liu et al. 2020, Evolving Normalization-Activation Layers, arXiv:2004.02967, table 2.

    Args:
        site, named: the site, see `Norm`; `parts` has no effect.
        groups: groups of channels; must divide them.
        eps: added to the variance.

    Raises:
        InputError: groups don't divide the channels.
    """

    axes: ClassVar[dict[str, str]] = {"BCHW": "CHW"}
    layouts = ("BCL", "BCHW", "BCDHW")
    nearest = "layer"

    def __init__(
        self,
        *site: Any,
        groups: Annotated[int, Field(gt=0)] = 8,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        if self.num_features % groups:
            near = max(n for n in range(1, groups + 1) if self.num_features % n == 0)
            raise InputError(
                f"norm.groups={groups} does not divide the {self.num_features} channels of a site: "
                f"use norm.groups={near}"
            )
        self.groups = groups
        self.v = nn.Parameter(torch.ones(self.num_features))
        self.eps = eps

    @property
    def pooled_channels(self) -> int:
        """Channels of one group."""
        return self.num_features // self.groups

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone."""
        del step
        wide = at_least_float32(x)
        blocks, real = self.split(wide, mask, self.groups)
        variance = moments(blocks, self.block_axes, real).variance
        active, _ = self.split(wide * torch.sigmoid(self._along_channels(self.v) * wide), None, self.groups)
        return self.scale_and_shift((active * torch.rsqrt(variance + self.eps)).reshape(x.shape))
