"""One label per example: cross-entropy, accuracy and macro-F1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score

from normlab.data.batch import Batch
from normlab.tasks.task import Task

CLASSES = 50  # nobody reads a larger confusion matrix


class Classification(Task):
    """Logits [B, outputs] against labels [B].

    Metrics: `loss` (nats), `accuracy`, `f1` (the mean of the classes' F1), and the confusion matrix. Predictions
    are kept as tensors and reduced once per epoch, because a torchmetrics update per batch cost more than a small
    network's step.
    """

    metric = "accuracy"
    direction = "max"
    scored_as = "accuracy"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy summed over the examples, nats."""
        return F.cross_entropy(logits.float(), batch.targets, reduction="sum")

    def collect(self, logits: Tensor, batch: Batch, loss: Tensor) -> None:
        """Keep the predicted classes, the labels and the summed loss."""
        self._kept.append((logits.argmax(dim=1), batch.targets, loss))

    def score(self, logits: Tensor, batch: Batch) -> Tensor:
        """bool [B]: right."""
        return logits.argmax(dim=1) == batch.targets

    def metrics(self, split: str) -> dict[str, Tensor]:
        """`loss` in nats per example, `accuracy` and `f1` in [0, 1]."""
        predicted = torch.cat([kept[0] for kept in self._kept])
        targets = torch.cat([kept[1] for kept in self._kept])
        loss = torch.stack([kept[2] for kept in self._kept]).sum()
        self._kept.clear()
        mean_loss = MeanMetric(nan_strategy="disable").to(self.device)
        mean_loss.update(loss / max(len(targets), 1), weight=len(targets))
        accuracy = MulticlassAccuracy(self.sizes.outputs, average="micro", validate_args=False)
        f1 = MulticlassF1Score(self.sizes.outputs, average="macro", validate_args=False)
        reduced = {"loss": mean_loss.compute()}
        for name, metric in (("accuracy", accuracy), ("f1", f1)):
            metric.to(self.device).update(predicted, targets)
            reduced[name] = metric.compute()
        if self.sizes.outputs <= CLASSES:
            confusion = MulticlassConfusionMatrix(self.sizes.outputs, validate_args=False).to(self.device)
            confusion.update(predicted, targets)
            self.confusion = confusion.compute()
        return reduced
