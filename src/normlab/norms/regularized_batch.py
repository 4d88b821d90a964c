"""Regularised batch norm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from normlab.norms.base import Epsilon
from normlab.norms.batch import BatchNorm


class RegularizedBatchNorm(BatchNorm):
    """y = gain · (x - μ) / √(σ² + eps) + bias: batch norm, with a loss that pulls its statistics to the running ones.

    In training the loss gets mean_weight · Σ (μ - μ')² + var_weight · Σ |σ² - σ'²| over all sets of statistics and
    channels, where μ' and σ'² are the running statistics before this batch, constants.

    Statistics over: `BC` B · `BCHW` B, H, W · `BTC` B, T, or B with one set per position (`pool=positions`) · inside a
    recurrence B, one set per time step. As in batch norm, the running variance is unbiased; the released code's isn't.

    Source: Wang et al. 2022, Understanding the Failure of Batch Normalization for Transformers in NLP,
    arXiv:2210.05153.

    Args:
        site, named: the site, see `Norm`; `parts` has no effect.
        eps: added to the variance.
        momentum: weight of the newest statistics in the running ones.
        mean_weight: weight of the squared differences of the means in the loss.
        var_weight: weight of the absolute differences of the variances in the loss.
        evaluation: as in batch norm.
        pool: as in batch norm.
        sync: as in batch norm.
        recurrent_gain: as in batch norm.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "B", "BCHW": "BHW", "BTC": "BT"}
    in_loss = True

    def __init__(
        self,
        *site: Any,
        eps: Epsilon = 1e-5,
        momentum: Annotated[float, Field(gt=0, le=1)] = 0.05,
        mean_weight: Annotated[float, Field(ge=0)] = 0.1,
        var_weight: Annotated[float, Field(ge=0)] = 0.01,
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
        self.mean_weight = mean_weight
        self.var_weight = var_weight

    def _fusable(self, x: Tensor, start: int, length: int) -> bool:
        return not self.training and super()._fusable(x, start, length)

    def standardisation(self, mean: Tensor, var: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Batch norm's, and the terms of the loss."""
        if self.training and self.terms is not None:
            running_mean, running_var = (row.detach().clone() for row in self.running(start, mean.shape[1]))
            means, variances = (mean - running_mean).square().sum(), (var - running_var).abs().sum()
            self.terms.append(self.mean_weight * means + self.var_weight * variances)
        return super().standardisation(mean, var, start)
