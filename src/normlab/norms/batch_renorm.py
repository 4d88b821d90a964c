"""Batch renormalisation."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from normlab.config.schema import InputError
from normlab.norms.base import Epsilon
from normlab.norms.counted import CountedBatchNorm


class BatchRenorm(CountedBatchNorm):
    """y = gain · (r · (x - μ) / √(σ² + eps) + d) + bias: in training too, almost what the running statistics give.

    μ and σ² are the batch's, with batch norm's options and axes: `BC` B · `BCHW` B, H, W · `BTC` B, T, or B with one
    set per position · inside a recurrence B, one set per time step. r = σ/σ', within [1/r_max, r_max], and
    d = (μ - μ')/σ', within ±d_max, are constants in the backward pass; μ' and σ' are the running statistics before
    this batch. The limits start at 1 and 0, which is batch norm, and grow linearly from `warmup` passes on.

    As in batch norm, the running statistics are the mean and the unbiased variance; the paper averages σ itself.

    Source: Ioffe 2017, Batch Renormalization, arXiv:1702.03275.

    Args:
        site, named: the site, see `Norm`.
        eps: added to the variance.
        momentum: weight of the newest statistics in the running ones.
        r_max: final limit of r.
        d_max: final limit of d.
        warmup: training passes as plain batch norm; the defaults are the paper's 5,000 / 40,000 / 25,000 of 160,000
            steps for runs of a hundredth of the length.
        r_steps: passes after which r's limit is r_max.
        d_steps: passes after which d's limit is d_max.
        evaluation: as in batch norm.
        pool: as in batch norm.
        sync: as in batch norm.
        recurrent_gain: as in batch norm.

    Raises:
        InputError: the limits would be final before the warm-up is over.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "B", "BCHW": "BHW", "BTC": "BT"}
    counted = ("r_steps", "d_steps")

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        momentum: Annotated[float, Field(gt=0, le=1)] = 0.01,
        r_max: Annotated[float, Field(ge=1)] = 3.0,
        d_max: Annotated[float, Field(ge=0)] = 5.0,
        warmup: Annotated[int, Field(ge=0)] = 50,
        r_steps: Annotated[int, Field(ge=0)] = 400,
        d_steps: Annotated[int, Field(ge=0)] = 250,
        evaluation: Literal["running", "precise", "batch"] = "running",
        pool: Literal["tokens", "positions"] = "tokens",
        sync: bool = False,
        recurrent_gain: float = 0.1,
        **named: Any,
    ) -> None:
        super().__init__(
            *site,
            eps=eps,
            momentum=momentum,
            evaluation=evaluation,
            pool=pool,
            sync=sync,
            recurrent_gain=recurrent_gain,
            **named,
        )
        if min(r_steps, d_steps) < warmup:
            raise InputError(
                f"norm.r_steps={r_steps} and norm.d_steps={d_steps} include the warm-up, so neither can be less than "
                f"norm.warmup={warmup}"
            )
        self.limits = ((1.0, r_max, r_steps), (0.0, d_max, d_steps))
        self.warmup = warmup

    def limit(self, passed: Tensor, first: float, last: float, steps: int) -> Tensor:
        """The limit of r or d after so many training passes."""
        done = (passed - self.warmup) / max(1, steps - self.warmup)
        return first + (last - first) * done.clamp(0, 1)

    def standardisation(self, mean: Tensor, var: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """In training corrected towards the running statistics."""
        offset, slope = super().standardisation(mean, var, start)
        if not self.training:
            return offset, slope
        running_mean, running_var = self.running(start, mean.shape[1])
        running_slope = torch.rsqrt(running_var + self.eps)
        passed = self.passed(start, mean.shape[1]).to(mean.dtype)
        r_max, d_max = (self.limit(passed, *limit) for limit in self.limits)
        r = (running_slope / slope).detach().clamp(1 / r_max, r_max)
        d = ((mean - running_mean) * running_slope).detach().clamp(-d_max, d_max)
        slope = (slope * r).clamp(min=1e-30)  # of huge inputs it is 0, and d / 0 is not finite
        return offset - d / slope, slope
