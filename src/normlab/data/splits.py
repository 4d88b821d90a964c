"""One split of a data set as tensors, from which batches are gathered by index."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from normlab.data.batch import IGNORE, Batch


@dataclass(frozen=True)
class Examples:
    """Examples with a label, a number or a mask each.

    inputs   uint8 images [N, C, H, W]; uint8 or float32 features [N, T, F], `mean` where padded;
             token ids [N, T] of any integer type, 0 where padded; float64 features of a table [N, F]
    targets  int64 [N]; regression: float64 [N]; segmentation: uint8 [N, H, W], `IGNORE` where a pixel doesn't count
    lengths  int64 [N] on the CPU if sequences differ in length; otherwise None
    mean     of the training split, broadcast over an example, like std; None for tokens
    scale    regression: mean and standard deviation of the training targets
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None
    mean: Tensor | None = None
    std: Tensor | None = None
    scale: tuple[float, float] | None = None

    @property
    def dense(self) -> bool:
        """Has each pixel a target?"""
        return self.targets.ndim == 3

    def __len__(self) -> int:
        return len(self.targets)

    def in_order(self) -> Tensor:
        """All indices, from first to last."""
        return torch.arange(len(self))

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """All indices, in random order."""
        return torch.randperm(len(self), generator=generator)

    def lengths_at(self, index: Tensor) -> Tensor:
        """Time steps of each example (all equal if nothing is padded)."""
        return torch.ones_like(index) if self.lengths is None else self.lengths[index]

    def gather(self, index: Tensor, whole: Tensor | None = None) -> Batch:
        """The examples at `index` (int64 [B], on the CPU), pixels or features standardised, sequences padded.

        `whole` is the batch of which `index` is one process's share. All processes pad to the same length, so that
        recurrences take the same number of steps everywhere.
        """
        whole = index if whole is None else whole
        on_device = index.to(self.inputs.device)
        inputs, targets = self.inputs.index_select(0, on_device), self.targets.index_select(0, on_device)
        mask = None
        if self.mean is not None and self.std is not None:
            # in the precision of the statistics, which is double for tables
            inputs = inputs.to(self.mean.dtype).sub_(self.mean).div_(self.std).float()
        else:
            inputs = inputs.long()
        if self.lengths is not None:
            lengths, longest = self.lengths[index], int(self.lengths[whole].max())
            inputs = inputs[:, :longest]
            if int(lengths.min()) < longest:
                mask = (torch.arange(longest) < lengths[:, None]).to(inputs.device)
        if self.scale is not None:
            targets = ((targets - self.scale[0]) / self.scale[1]).float()
        return Batch(inputs, targets.long() if self.dense else targets, mask, total=self._total(targets, index, whole))

    def _total(self, targets: Tensor, index: Tensor, whole: Tensor) -> int:
        """Targets of the whole batch that count."""
        if not self.dense:
            return len(whole)
        own = targets if len(index) == len(whole) else self.targets.index_select(0, whole.to(self.targets.device))
        return max(1, int((own != IGNORE).sum()))

    def to(self, device: torch.device | str) -> Examples:
        """The same examples on `device`, where batches are then gathered."""
        return Examples(
            self.inputs.to(device),
            self.targets.to(device),
            lengths=self.lengths,
            mean=None if self.mean is None else self.mean.to(device),
            std=None if self.std is None else self.std.to(device),
            scale=self.scale,
        )


@dataclass(frozen=True)
class Windows:
    """A text as windows of `length` tokens; each token is the input for predicting the next.

    tokens   integer [N]; an index is the start of a window
    """

    tokens: Tensor
    length: int

    def __len__(self) -> int:
        """Number of windows that contain every token once; the last may be shorter."""
        return -(-self.predicted // self.length)

    @property
    def predicted(self) -> int:
        """Number of tokens to predict: all but the first."""
        return len(self.tokens) - 1

    def in_order(self) -> Tensor:
        """Starts of adjacent windows: every token is predicted once."""
        return torch.arange(0, self.predicted, self.length)

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """Starts of full adjacent windows in random order, from a random offset.

        A new offset in each epoch lets every token occur at every position. The number of windows fits for any offset,
        so all epochs are equally long.
        """
        count = max(1, (self.predicted - self.length + 1) // self.length)
        slack = min(self.length - 1, self.predicted - count * self.length)
        offset = torch.randint(slack + 1, (), generator=generator)
        return offset + self.length * torch.randperm(count, generator=generator)

    def lengths_at(self, index: Tensor) -> Tensor:
        """Predicted tokens of each window."""
        return (self.predicted - index).clamp(max=self.length)

    def gather(self, index: Tensor, whole: Tensor | None = None) -> Batch:
        """The windows that start at `index` (int64 [B], on the CPU), a process's share of the batch `whole`."""
        total = int(self.lengths_at(index if whole is None else whole).sum())
        if int(index.max()) + self.length <= self.predicted:
            windows = self.tokens.unfold(0, self.length + 1, 1)  # a view of all windows
            window = windows.index_select(0, index.to(self.tokens.device)).long()
            return Batch(window[:, :-1], window[:, 1:], None, total)
        at = (index[:, None] + torch.arange(self.length + 1)).clamp(max=self.predicted)
        window = self.tokens[at.to(self.tokens.device)].long()
        lengths = self.lengths_at(index)
        mask = (torch.arange(self.length) < lengths[:, None]).to(window.device)
        return Batch(window[:, :-1], window[:, 1:], mask, total)

    def to(self, device: torch.device | str) -> Windows:
        """The same text on `device`, where batches are then gathered."""
        return replace(self, tokens=self.tokens.to(device))


Split = Examples | Windows
