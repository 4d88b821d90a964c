"""Batch norm."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from normlab.kernels import rows
from normlab.norms.eager import eager
from normlab.norms.running import RunningNorm


class BatchNorm(RunningNorm):
    """y = gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each channel over a batch.

    Statistics over: `BC` B · `BCHW` B, H, W · `BTC` B, T (`pool=tokens`), or B with one set per position
    (`pool=positions`) · inside a recurrence B, one set per time step. Sets of fewer than two real entries, and
    steps beyond `positions` (with the last step's set), use the running statistics and update nothing.

    Sources: Ioffe and Szegedy 2015, arXiv:1502.03167; per time step Cooijmans et al. 2017, arXiv:1603.09025;
    chunks Hoffer et al. 2017, arXiv:1705.08741; precise statistics Wu and Johnson 2021, arXiv:2105.07576.

    The options are those of `RunningNorm`.
    """

    axes: ClassVar[dict[str, str]] = {"BC": "B", "BCHW": "BHW", "BTC": "BT"}

    def kernel_here(self) -> str | None:
        """One for sequences, as they have padding; not where a subclass has another formula."""
        ours = self.layout == "BTC" and not self.per_position and type(self).normalise is RunningNorm.normalise
        return rows.choose() if ours else None

    def forward(self, x: Tensor, mask: Tensor | None = None, step: int | None = None) -> Tensor:
        """Normalise x. Our kernel leaves out padding, which it sets to 0; without padding PyTorch's is as fast."""
        if mask is None or self.kernel != "compiled" or not self._in_kernel(x, mask):
            return super().forward(x, mask, step)
        momentum = self.momentum if self.training else 0.0 if self.of_batch else None
        running = rows.Running(self.running_mean, self.running_var, momentum)
        return rows.standardise_batch(x, mask, self.gain, self.bias, running, eps=self.eps)

    def _in_kernel(self, x: Tensor, mask: Tensor) -> bool:
        """Does the kernel compute what is needed? It knows one set of statistics: the batch's or the running one."""
        if not eager(x) or x.dtype != self.gain.dtype or mask.dtype != torch.bool:
            return False
        if mask.shape != x.shape[:-1]:
            return False  # a mask that broadcasts is for the formula, which refuses all others
        if not self.of_batch:
            return self.collected is None
        return (self.nbs is None or self.nbs >= len(x)) and self._fusable(x, 0, 1)
