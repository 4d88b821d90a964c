"""One number per example: mean squared error, R², mean absolute and root mean squared error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, MeanMetric, MeanSquaredError, Metric, R2Score

from normlab.config.errors import InputError
from normlab.data.batch import Batch
from normlab.tasks.task import Task


class Regression(Task):
    """Outputs [B, 1] against standardised targets [B].

    Metrics: `loss` (mean squared error of the standardised targets, so 1 is guessing the mean of training), `r2` (1
    less the squared error over that of the evaluated split's own mean), `mae` and `rmse` in the target's own unit.

    Args:
        unit: standard deviation of the training targets, by which errors get their unit.
    """

    metric = "r2"
    direction = "max"
    scored_as = "loss"

    def __init__(self, *args: Any, unit: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self.unit = unit
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Squared error summed over the examples, in standard deviations of the training targets."""
        return self._errors(logits, batch).square().sum()

    def collect(self, logits: Tensor, batch: Batch, loss: Tensor) -> None:
        """Keep predictions, targets and the summed loss."""
        self._kept.append((logits.float()[:, 0], batch.targets.float(), loss))

    def score(self, logits: Tensor, batch: Batch) -> Tensor:
        """float32 [B]: squared error, standardised."""
        return self._errors(logits, batch).square()

    def metrics(self, split: str) -> dict[str, Tensor]:
        """`loss` standardised, `r2`, and `mae` and `rmse` in the target's own unit.

        Raises:
            InputError: R² is not defined, because the evaluated targets don't differ.
        """
        predicted = torch.cat([kept[0] for kept in self._kept]).double()
        targets = torch.cat([kept[1] for kept in self._kept]).double()
        loss = torch.stack([kept[2] for kept in self._kept]).sum()
        self._kept.clear()
        if not torch.distributed.is_initialized() and len(targets.unique()) < 2:
            raise InputError(
                f"R² is not defined on the {len(targets)} {split} rows that are evaluated, whose targets don't differ: "
                "evaluate more, with larger trainer.batches or task.eval_batch_size"
            )
        mean_loss = MeanMetric(nan_strategy="disable").to(self.device)
        mean_loss.update(loss / max(len(targets), 1), weight=len(targets))
        reduced = {"loss": mean_loss.compute()}
        kinds: dict[str, tuple[Metric, float]] = {
            "r2": (R2Score(), 1.0),
            "mae": (MeanAbsoluteError(), self.unit),
            "rmse": (MeanSquaredError(squared=False), self.unit),
        }
        for name, (metric, unit) in kinds.items():
            metric.set_dtype(torch.float64).to(self.device).update(predicted, targets)
            reduced[name] = metric.compute().float() * unit
        return reduced

    @staticmethod
    def _errors(logits: Tensor, batch: Batch) -> Tensor:
        return logits[:, 0].float() - batch.targets.float()
