"""What batch norms share that change with the number of training passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normlab.norms.batch import BatchNorm
from normlab.norms.moments import Moments


class CountedBatchNorm(BatchNorm):
    """A batch norm that counts its training passes, those of each set of running statistics."""

    passes: Tensor

    def __init__(self, *site: Any, **named: Any) -> None:
        super().__init__(*site, **named)
        self.register_buffer("passes", torch.zeros(*self.running_mean.shape[:-1], 1, dtype=torch.long))

    def _fusable(self, x: Tensor, start: int, length: int) -> bool:
        return not self.training and super()._fusable(x, start, length)

    def passed(self, start: int, length: int) -> Tensor:
        """Training passes of `length` steps from `start` before this one, [length, 1]; later steps have the last's."""
        rows = self._rows(self.passes)
        return rows[torch.arange(start, start + length, device=rows.device).clamp(max=len(rows) - 1)]

    @torch.no_grad()
    def update(self, rows: Moments, start: int) -> None:
        """Update the running statistics, and count the pass."""
        super().update(rows, start)
        own = self._rows(self.passes)[start : start + rows.n.shape[1]]
        own.add_((rows.n >= 2).any(0)[: len(own), :1].long())
