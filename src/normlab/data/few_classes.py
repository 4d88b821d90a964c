"""Batches of few classes."""

from __future__ import annotations

import torch
from torch import Tensor

from normlab.config.schema import InputError


class FewClasses:
    """Batches with `classes` classes each, drawn independently for every batch.

    These are the non-iid batches of Ioffe 2017, Batch Renormalization, arXiv:1702.03275. Each class is cut into shares
    of batch_size / classes examples, and a batch takes one share of each of its classes. Classes are drawn without
    replacement, with probability proportional to the shares they have left; one that would otherwise be left over is
    always drawn. The order within a batch is random.

    Every example comes once per epoch: the remainder of a class is spread over its shares, and the largest classes have
    one share fewer if that makes all batches full. So a batch has `batch_size` examples or a few more, and the number
    of batches is the same in every epoch. A class with fewer examples than a share is one share. A class with more
    shares than there are batches takes several places of a batch, which then has fewer classes. A class with fewer than
    two examples per process is left out because it has no batch statistics.

    Args:
        targets: int64 [N], the class of every example.
        batch_size: examples per batch over all processes.
        classes: classes per batch; at most `batch_size`.
        world_size: processes that share a batch.

    Raises:
        InputError: there are fewer classes than that, or none that is large enough.
    """

    def __init__(self, targets: Tensor, batch_size: int, classes: int, world_size: int) -> None:
        self.targets = targets.cpu()
        self.classes = classes
        self.counts = self.targets.bincount()
        present = int((self.counts > 0).sum())
        if classes > present:
            raise InputError(f"task.classes_per_batch={classes}: the training split has only {present} classes")
        enough = self.counts >= world_size * min(2, batch_size // world_size)
        self.shares = enough * (self.counts // -(-batch_size // classes)).clamp(min=1)
        while self.shares.sum() % classes and self.shares.max() > 1:
            self.shares[self.shares.argmax()] -= 1
        self.batches = -(-int(self.shares.sum()) // classes)
        if self.batches == 0:
            raise InputError(f"task.classes_per_batch={classes}: no class has two training examples per process")

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return self.batches

    def compose(self, index: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The batches of an epoch, from its shuffled examples `index`."""
        by_class = index[self.targets[index].argsort(stable=True)].split(self.counts.tolist())
        shares = [
            iter(examples.tensor_split(count) if count else ())
            for examples, count in zip(by_class, self.shares.tolist(), strict=True)
        ]
        batches = [torch.cat([next(shares[label]) for label in drawn]) for drawn in self._draw(generator)]
        return [batch[torch.randperm(len(batch), generator=generator)] for batch in batches]

    def _draw(self, generator: torch.Generator) -> list[list[int]]:
        """The classes of every batch, one per share."""
        lanes, left = self._lanes()
        drawn = []
        for to_come in range(self.batches, 0, -1):
            # the smallest exponential variables with these rates give a weighted draw without replacement
            keys = torch.empty(len(left), dtype=torch.float64).exponential_(generator=generator) / left
            keys[left == to_come] = -1.0  # these must be in every remaining batch
            chosen = keys.argsort()[: min(self.classes, int((left > 0).sum()))]
            left[chosen] -= 1
            drawn.append(lanes[chosen].tolist())
        return drawn

    def _lanes(self) -> tuple[Tensor, Tensor]:
        """The class and the shares of each lane; a lane gives a batch at most one share."""
        lanes, left = [], []
        for label, count in enumerate(self.shares.tolist()):
            while count > 0:
                lanes.append(label)
                left.append(min(count, self.batches))
                count -= self.batches
        return torch.tensor(lanes), torch.tensor(left)
