"""The next token at every position: cross-entropy, perplexity and bits per character."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanMetric

from normlab.data.batch import Batch
from normlab.tasks.task import Task, masked_sum


class LanguageModelling(Task):
    """Logits [B, T, outputs] against the next tokens [B, T].

    Metrics: `loss` (nats per token), `perplexity` (e to that) and `bits_per_character`, by which models of characters
    and of subwords can be compared.

    Args:
        tokens_per_character: of each evaluated split; 1 for models of characters
    """

    metric = "bits_per_character"
    direction = "min"
    scored_as = "loss"

    def __init__(self, *args: Any, tokens_per_character: dict[str, float], **options: Any) -> None:
        super().__init__(*args, **options)
        self.tokens_per_character = tokens_per_character
        self._kept: list[tuple[Tensor, Tensor]] = []

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy summed over the valid tokens, nats."""
        if batch.mask is None:
            return F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="sum")
        loss = F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
        return masked_sum(loss, batch.mask.flatten())

    def collect(self, logits: Tensor, batch: Batch, loss: Tensor) -> None:
        """Keep the summed loss and the number of valid tokens."""
        # a tensor on the device, so that nothing waits for it
        count = torch.tensor(batch.targets.numel()) if batch.mask is None else batch.mask.sum()
        self._kept.append((loss, count))

    def score(self, logits: Tensor, batch: Batch) -> Tensor:
        """float32 [B]: nats per valid token of each window."""
        loss = F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
        loss = loss.view(batch.targets.shape)
        if batch.mask is None:
            return loss.mean(dim=1)
        return torch.where(batch.mask, loss, 0.0).sum(dim=1) / batch.mask.sum(dim=1)

    def metrics(self, split: str) -> dict[str, Tensor]:
        """`loss` in nats per token, `perplexity`, `bits_per_character`."""
        loss = torch.stack([kept[0] for kept in self._kept]).sum()
        count = torch.stack([kept[1].to(loss.device) for kept in self._kept]).sum()
        self._kept.clear()
        mean_loss = MeanMetric(nan_strategy="disable").to(self.device)
        mean_loss.update(loss / count.clamp(min=1), weight=count)
        nats = mean_loss.compute()
        bits = nats / math.log(2) * self.tokens_per_character[split]
        return {"loss": nats, "perplexity": nats.exp(), "bits_per_character": bits}
