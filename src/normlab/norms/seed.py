"""SeeDNorm."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from normlab.norms.base import Epsilon, Norm
from normlab.norms.moments import at_least_float32


class SeedNorm(Norm):
    """y = (gain + alpha · tanh(Σ beta · x)) · x / √(mean(x²) + eps): RMS norm whose gain depends on x. No bias.

    The sum and the mean are over, in each of `parts` blocks of channels: `BC` C · `BCHW` C at each pixel · `BTC` C.
    beta starts at 0, so the norm starts as RMS norm; alpha at `alpha_init`. Neither has weight decay here, as no
    norm's parameters have; the paper decays both.

    Source: SeeDNorm in Cai et al. 2025, Self-Rescaled Dynamic Normalization, arXiv:2510.22777, eq. 3.

    Args:
        site, named: the site, see `Norm`.
        alpha_init: initial alpha of every channel.
        eps: added to the mean square.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "C", "BCHW": "C", "BTC": "C"}

    gain: Tensor

    def __init__(
        self,
        *site: Any,
        alpha_init: float = 1.0,
        eps: Epsilon = 1e-5,
        **named: Any,
    ) -> None:
        super().__init__(*site, **named)
        self.bias = None
        self.alpha = nn.Parameter(torch.full((self.num_features,), float(alpha_init)))
        self.beta = nn.Parameter(torch.zeros(self.num_features))
        self.eps = eps

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """Each position alone."""
        del step
        x = at_least_float32(x)
        blocks, _ = self.split(x, mask, self.parts)
        seen, _ = self.split(x * self._along_channels(self.beta), None, self.parts)
        channel = self.axes_within_blocks("C")
        mean_square = blocks.square().mean(channel, keepdim=True)
        unit = (blocks * torch.rsqrt(mean_square + self.eps)).reshape(x.shape)
        look = torch.tanh(seen.sum(channel, keepdim=True)).expand_as(blocks).reshape(x.shape)
        return (self._along_channels(self.gain) + self._along_channels(self.alpha) * look) * unit
