"""Group norm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from normlab.config.schema import InputError
from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import standardise, standardise_blocks


class GroupNorm(Norm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each group of channels of an example.

    Statistics over, with C/G channels in each of the G = `groups` groups of each of `parts` blocks:
    `BC` C/G · `BCHW` C/G, H, W · `BTC` C/G, T, so a position sees later ones; inside a recurrence C/G.

    Source: Wu and He 2018, Group Normalization, arXiv:1803.08494.

    Raises:
        InputError: groups don't divide the channels, or leave a single value to normalise.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "CHW", "BTC": "CT"}
    causal = False
    nearest = "layer"

    def __init__(
        self,
        *site: Any,
        groups: Annotated[int, Field(gt=0)] = 8,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        channels = self.num_features // self.parts
        if channels % groups:
            most = min(groups, channels - 1 if self.layout == "BC" else channels)
            near = max((n for n in range(1, most + 1) if channels % n == 0), default=1)
            raise InputError(
                f"norm.groups={groups} does not divide the {channels} channels of a site: use norm.groups={near}"
            )
        if self.layout == "BC" and channels == groups:
            raise InputError(
                f"norm.groups={groups} leaves one value per group at a BC site of {channels} channels; "
                f"use fewer groups, or norm={self.nearest}"
            )
        self.groups = groups
        self.eps = eps

    @property
    def pooled_channels(self) -> int:
        """Channels of one group."""
        return self.num_features // (self.parts * self.groups)

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each example alone; images and sequences may have padding within their statistics."""
        del step
        groups = self.parts * self.groups
        if self.layout == "BC":
            return self.scale_and_shift(standardise_blocks(x, groups, self.eps))
        if mask is None:
            images = x if self.channels_first else x.transpose(1, 2)
            y = torch.group_norm(images, groups, self.gain, self.bias, self.eps)
            return y if self.channels_first else y.transpose(1, 2)
        blocks, real = self.split(x, mask, groups)
        return self.scale_and_shift(standardise(blocks, self.block_axes, self.eps, real).reshape(x.shape))
