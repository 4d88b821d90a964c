"""Batches of few classes."""

from __future__ import annotations

import torch
from torch import Tensor

from normlab.config.schema import InputError


class FewClasses:
    """Batches that hold `classes` classes each, drawn again for every batch.

    Such are the non-iid batches of Ioffe 2017, Batch Renormalization, arXiv:1702.03275. Each class is cut into shares
    of batch_size / classes examples, and a batch takes one share of each of its classes. Classes are drawn without
    replacement, with probability proportional to the shares they have left; one that would otherwise be left over is
    always drawn. The order within a batch is random.

    Every example comes once an epoch: what is left of a class is spread over its shares, and the largest classes have a
    share fewer where that makes all batches full. So a batch is of `batch_size` examples or somewhat more, and the
    number of batches is the same in every epoch. A class of fewer examples than a share is a share of its own. One
    with more shares than there are batches fills several places of a batch, which then holds fewer classes. A class of
    fewer than two examples a process is left out, as it has no batch statistics.

    Args:
        targets: int64 [N], the class of every example.
        batch_size: examples of a batch over all processes.
        classes: of a batch; no more than `batch_size`.
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
        """Batches of an epoch."""
        return self.batches

    def compose(self, index: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The batches of an epoch from its shuffled examples `index`."""
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
            # the smallest of exponential variables with these rates are a weighted draw without replacement
            keys = torch.empty(len(left), dtype=torch.float64).exponential_(generator=generator) / left
            keys[left == to_come] = -1.0  # must be in every batch to come
            chosen = keys.argsort()[: min(self.classes, int((left > 0).sum()))]
            left[chosen] -= 1
            drawn.append(lanes[chosen].tolist())
        return drawn

    def _lanes(self) -> tuple[Tensor, Tensor]:
        """A lane gives a batch one share at most: the class of each lane, and its shares."""
        lanes, left = [], []
        for label, count in enumerate(self.shares.tolist()):
            while count > 0:
                lanes.append(label)
                left.append(min(count, self.batches))
                count -= self.batches
        return torch.tensor(lanes), torch.tensor(left)
