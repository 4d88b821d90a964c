"""Frozen batch norm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from normlab.norms.base import Epsilon
from normlab.norms.counted import CountedBatchNorm


class FrozenBatchNorm(CountedBatchNorm):
    """y = gain · (x - μ) / √(σ² + eps) + bias: batch norm, until its running statistics are frozen and used.

    For the first `after` training passes it is batch norm, with its axes: `BC` B · `BCHW` B, H, W · `BTC` B, T, or B
    with one set per position · inside a recurrence B, one set per time step. From then on training does what
    evaluation does: μ and σ² are the running ones, which no longer change, and examples are no longer coupled. With
    `after=0` they stay as loaded, or at 0 and 1, which leaves gain and bias alone.

    Sources: He et al. 2016, arXiv:1512.03385, for fine-tuning; frozen late in training: Wu and Johnson 2021,
    arXiv:2105.07576, section 3.

    Args:
        site, named: the site, see `Norm`.
        after: training passes as batch norm.
        eps: added to the variance.
        momentum: weight of the newest statistics in the running ones.
        pool: as in batch norm.
        sync: as in batch norm.
        recurrent_gain: as in batch norm.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "B", "BCHW": "BHW", "BTC": "BT"}
    counted = ("after",)

    def __init__(
        self,
        *site: Any,
        after: Annotated[int, Field(ge=0)] = 500,
        eps: Epsilon = 1e-5,
        momentum: Annotated[float, Field(gt=0, le=1)] = 0.1,
        pool: Literal["tokens", "positions"] = "tokens",
        sync: bool = False,
        recurrent_gain: float = 0.1,
        **named: Any,
    ) -> None:
        super().__init__(
            *site, eps=eps, momentum=momentum, pool=pool, sync=sync, recurrent_gain=recurrent_gain, **named
        )
        self.after = after

    @property
    def couples_examples(self) -> bool:
        """Until the statistics are frozen."""
        return self.after > 0 and super().couples_examples

    @property
    def couples_positions(self) -> bool:
        """Until the statistics are frozen."""
        return self.after > 0 and super().couples_positions

    @property
    def pooled(self) -> str:
        """As in batch norm; without any batch statistics, nothing."""
        return super().pooled if self.after > 0 else ""

    def standardisation(self, mean: Tensor, var: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """With the running statistics once they are frozen."""
        running_mean, running_var = self.running(start, mean.shape[1])
        frozen = self.passed(start, mean.shape[1]) >= self.after
        mean, var = torch.where(frozen, running_mean, mean), torch.where(frozen, running_var, var)
        return super().standardisation(mean, var, start)

    def _weight(self, updated: Tensor, live: slice) -> Tensor:
        frozen = self.passed(live.start, live.stop - live.start) >= self.after
        return super()._weight(updated * ~frozen, live)
