"""What batch norms share whose outputs depend on an example's own statistics too."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from normlab.norms.batch import BatchNorm
from normlab.norms.moments import at_least_float32


class PooledNorm(BatchNorm):
    """A batch norm of images whose y is more than an affine map by the batch's statistics.

    A subclass says what y is in `output`, given mean and variance of the batch, or the running ones.
    """

    def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
        """As batch norm, but the mask counts in evaluation too."""
        if self.training or self.evaluation == "batch" or self.collected is not None:
            return self._pooled(x, mask, step, 1)
        real = None if mask is None else mask.unsqueeze(self._channel_axis)[None]
        mean, var = (self._along_channels(row[0]) for row in self.running(0, 1))
        return self.output(at_least_float32(x)[None], real, mean, var)[0]

    def eval_affine(self, step: int | None = None) -> None:
        """None: the map depends on the example."""
        del step

    def standardisation(self, mean: Tensor, var: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Mean and variance themselves."""
        del start
        return mean, var

    @abstractmethod
    def output(self, x: Tensor, real: Tensor | None, mean: Tensor, var: Tensor) -> Tensor:
        """y of chunks [K, B/K, C, …] given the batch's mean and variance; `real` is their mask."""
