"""A class for each pixel: cross-entropy, intersection over union and Dice."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric, Metric
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassF1Score, MulticlassJaccardIndex

from normlab.data.batch import IGNORE, Batch
from normlab.tasks.classification import CLASSES
from normlab.tasks.task import Task

LISTED = 30  # classes whose own values are logged


class Segmentation(Task):
    """Logits [B, outputs, H, W] against a class for each pixel [B, H, W]; pixels of `IGNORE` don't count.

    Metrics over all pixels of a split: `loss` (nats per pixel), `pixel_accuracy`, `mean_iou` (intersection over union,
    the mean of the classes) and `mean_dice` (2 · intersection / (pixels + predicted pixels), likewise), and both for
    each class, as iou_1 and dice_1. A class with no pixel, actual or predicted, is in no mean, and its own
    values are not numbers.

    Args:
        classes: their names.
    """

    metric = "mean_iou"
    direction = "max"
    scored_as = "loss"

    def __init__(self, *args: Any, classes: tuple[str, ...], **options: Any) -> None:
        super().__init__(*args, **options)
        self.classes = [re.sub(r"\W", "", name) for name in classes]
        options = {"ignore_index": IGNORE, "validate_args": False}
        # a tuple, so that they are no submodules: they are no part of a checkpoint
        self._scores: tuple[Metric, ...] = (
            MulticlassConfusionMatrix(self.sizes.outputs, **options),
            MulticlassJaccardIndex(self.sizes.outputs, average="none", **options),
            MulticlassF1Score(self.sizes.outputs, average="none", **options),
        )
        self._losses: list[tuple[Tensor, Tensor]] = []

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy summed over the pixels that count, nats."""
        return F.cross_entropy(logits.float(), batch.targets, reduction="sum", ignore_index=IGNORE)

    def collect(self, logits: Tensor, batch: Batch, loss: Tensor) -> None:
        """Count the pixels of each class that were predicted as each; keep the summed loss."""
        predicted = logits.argmax(dim=1)
        for metric in self._scores:
            metric.to(self.device).update(predicted, batch.targets)
        self._losses.append((loss, (batch.targets != IGNORE).sum()))

    def score(self, logits: Tensor, batch: Batch) -> Tensor:
        """float32 [B]: nats per pixel that counts, of each image."""
        loss = F.cross_entropy(logits.float(), batch.targets, reduction="none", ignore_index=IGNORE)
        return loss.sum((1, 2)) / (batch.targets != IGNORE).sum((1, 2)).clamp(min=1)

    def metrics(self, split: str) -> dict[str, Tensor]:
        """`loss` in nats per pixel, and the others in [0, 1]."""
        loss = torch.stack([kept[0] for kept in self._losses]).sum()
        count = torch.stack([kept[1] for kept in self._losses]).sum()
        self._losses.clear()
        mean_loss = MeanMetric(nan_strategy="disable").to(self.device)
        mean_loss.update(loss / count.clamp(min=1), weight=count)
        confusion, iou, dice = (metric.compute() for metric in self._scores)
        for metric in self._scores:
            metric.reset()
        if self.sizes.outputs <= CLASSES:
            self.confusion = confusion
        seen = (confusion.sum(0) + confusion.sum(1)) > 0
        reduced = {
            "loss": mean_loss.compute(),
            "mean_iou": iou[seen].mean(),
            "mean_dice": dice[seen].mean(),
            "pixel_accuracy": confusion.trace() / confusion.sum(),
        }
        if len(self.classes) <= LISTED:
            each = torch.where(seen, torch.stack([iou, dice]), torch.nan)
            for name, of_iou, of_dice in zip(self.classes, *each, strict=True):
                reduced |= {f"iou_{name}": of_iou, f"dice_{name}": of_dice}
        return reduced
