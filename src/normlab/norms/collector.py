"""Exact population statistics, gathered over many batches."""

from __future__ import annotations

import torch
from torch import Tensor

from normlab.norms.moments import Moments, merge
from normlab.norms.processes import distributed, merge_processes


class Collector:
    """Pools moments row by row, in float64: one row of [C] a set of running statistics."""

    def __init__(self, like: Tensor) -> None:
        zeros = torch.zeros_like(like, dtype=torch.float64)
        self._pooled = Moments(zeros, zeros.clone(), zeros.clone())

    def add(self, rows: Moments, start: int) -> None:
        """Add rows [K, length, C], K chunks of the steps from `start`; steps without a row are left out."""
        live = slice(start, start + rows.n.shape[1])
        for kept, new in zip(self._pooled, self._join(rows, live), strict=True):
            kept[live] = new

    def _join(self, rows: Moments, live: slice) -> Moments:
        pairs = zip(self._pooled, rows, strict=True)
        return merge(Moments(*(torch.cat((old[None, live], new[:, : len(old[live])])) for old, new in pairs)), 0)

    def statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, unbiased variance and where they rest on two values at least; over all processes."""
        pooled = merge_processes(self._pooled) if distributed() else self._pooled
        return pooled.mean, pooled.m2 / (pooled.n - 1).clamp(min=1), pooled.n >= 2
