"""The batch: what a loader yields, a model reads and a loss divides by."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from normlab.views import masks

IGNORE = masks.IGNORE  # in a mask: a pixel that does not count


@dataclass  # not frozen: Lightning converts its tensors in place
class Batch:
    """One process's share of a batch.

    inputs   images: float32 [B, C, H, W] · features: float32 [B, T, F] · tokens: int64 [B, T] · table: float32 [B, F]
    targets  classification: int64 [B] · language modelling: int64 [B, T], the next token at each position ·
             regression: float32 [B], standardised · segmentation: int64 [B, H, W], `IGNORE` where a pixel doesn't count
    mask     bool [B, T], true where real; None if nothing is padded
    total    number of targets of the whole batch over all processes, by which a summed loss is divided
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor | None
    total: int

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        mask = None if self.mask is None else self.mask.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), mask, self.total)
