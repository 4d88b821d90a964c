"""Batches in an order that is a pure function of (seed, epoch), shared out among processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from normlab.config.schema import InputError
from normlab.config.seeds import derive
from normlab.data.augment import draw, shift_flip
from normlab.data.batch import IGNORE, Batch
from normlab.data.few_classes import FewClasses
from normlab.data.splits import Examples, Split

POOL = 50  # batches whose examples are sorted by length together: enough for little padding, few enough to stay random


def loader(
    split: Split,
    batch_size: int,
    *,
    seed: int | None = None,
    bucket: bool = False,
    classes_per_batch: int | None = None,
    augment: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[Batch]:
    """Batches of one split.

    Args:
        split: the examples, or the windows of a text.
        batch_size: examples per batch over all processes.
        seed: of the order, which `loader.batch_sampler.sampler.set_epoch` changes; None keeps the order of the
            data, for evaluation.
        bucket: put examples of similar lengths into a batch.
        classes_per_batch: classes per batch, see `FewClasses`; only for labelled examples.
        augment: shift and flip images at random, see `shift_flip`, as a function of the seed, the epoch and the
            image's place in it.
        rank, world_size: this process's rank, and the number of processes.

    Each process takes a contiguous share of every batch, and all processes have the same number of batches. The rest
    at the end joins the last batch if it is at most half a batch, or if a process would get fewer than two examples
    (too few for batch statistics). No example is left out or repeated, and the batches are the same for any number of
    processes that take at least four examples each. With `classes_per_batch`, batches have about `batch_size` examples
    instead, and a class that is too small to share is left out.

    Raises:
        InputError: the processes can't share a batch evenly, there are fewer examples than processes, or fewer
            classes than asked for.
    """
    if batch_size % world_size:
        raise InputError(
            f"batch size {batch_size} can't be divided evenly among {world_size} processes; "
            f"use a multiple of {world_size}, such as {-(-batch_size // world_size) * world_size}"
        )
    order = Order(split, seed, batch_size if bucket and seed is not None else None)
    composition = None
    if classes_per_batch is not None and seed is not None:
        assert isinstance(split, Examples)
        composition = FewClasses(split.targets, batch_size, classes_per_batch, world_size)
    batches: Any = Shares(
        order, batch_size, rank, world_size, composition=composition, augment=augment and seed is not None
    )
    if len(order) < world_size:
        raise InputError(f"{world_size} processes can't divide {len(order)} examples; use trainer.devices=1")
    # With its own generator, the loader draws nothing from torch's global one.
    return DataLoader(
        _Gathered(split), batch_sampler=batches, collate_fn=_as_is, generator=torch.Generator().manual_seed(0)
    )


@dataclass(frozen=True)
class Share:
    """One process's indices of a batch, those of the whole batch, and the draws of `shift_flip` for both."""

    index: Tensor
    whole: Tensor
    draws: Tensor | None = None
    whole_draws: Tensor | None = None


class Order(Sampler[int]):
    """The order of a split's examples in each epoch."""

    def __init__(self, split: Split, seed: int | None, bucket: int | None) -> None:
        self.split = split
        self.seed = seed
        self.bucket = bucket  # batch size for which to sort by length
        self.epoch = 0
        self._count = len(self.index())

    def set_epoch(self, epoch: int) -> None:
        """Lightning calls this before each epoch."""
        self.epoch = epoch

    def index(self) -> Tensor:
        """int64: every example of this epoch."""
        if self.seed is None:
            return self.split.in_order()
        generator = self.generator("order")
        index = self.split.shuffled(generator)
        return index if self.bucket is None else by_length(index, self.split.lengths_at(index), self.bucket, generator)

    def generator(self, *purpose: str | int) -> torch.Generator:
        """The random numbers of this epoch for one purpose."""
        assert self.seed is not None
        return torch.Generator().manual_seed(derive(self.seed, *purpose, self.epoch))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(self.index().tolist())


def by_length(index: Tensor, lengths: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
    """Reorder shuffled indices so that each batch has examples of similar lengths.

    In each pool of `POOL` batches, the shortest examples become one batch, the next longer ones another, and so on;
    then the batches are shuffled. Within a batch the order stays random. A last, incomplete batch stays last.
    """
    full = len(index) // batch_size * batch_size
    batches: list[Tensor] = []
    for pool in torch.arange(full).split(POOL * batch_size):
        ranked = pool[lengths[pool].argsort(stable=True)]
        batches += [batch.sort().values for batch in ranked.split(batch_size)]
    shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return index[torch.cat([*shuffled, torch.arange(full, len(index))])]


class Shares(Sampler[Share]):
    """One process's share of every batch."""

    def __init__(
        self,
        sampler: Order,
        batch_size: int,
        rank: int,
        world_size: int,
        *,
        composition: FewClasses | None = None,
        augment: bool = False,
    ) -> None:
        self.sampler = sampler  # the attribute in which Lightning looks for set_epoch
        self.composition = composition
        self.augment = augment
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.skip = 0  # batches that the next pass skips: those done in an interrupted epoch
        fewest = max(batch_size // 2 + 1, world_size * min(2, batch_size // world_size))
        whole, rest = divmod(len(sampler), batch_size)
        self.batches = len(composition) if composition else max(1, whole + (rest >= fewest))

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[Share]:
        first, self.skip = self.skip, 0
        for number, batch in islice(enumerate(self._batches()), first, None):
            low, high = (len(batch) * r // self.world_size for r in (self.rank, self.rank + 1))
            draws = draw(len(batch), self.sampler.generator("augment", number)) if self.augment else None
            yield Share(batch[low:high], batch, None if draws is None else draws[low:high], draws)

    def _batches(self) -> Iterator[Tensor]:
        index = self.sampler.index()
        if self.composition is not None:
            yield from self.composition.compose(index, self.sampler.generator("classes"))
            return
        for i in range(self.batches):
            last = i == self.batches - 1
            yield index[i * self.batch_size : None if last else (i + 1) * self.batch_size]


class _Gathered(Dataset[Batch]):
    """Makes a DataLoader fetch a whole batch at once."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitems__(self, share: Share) -> Batch:
        batch = self.split.gather(share.index, share.whole)
        if share.draws is None or share.whole_draws is None:
            return batch
        moved = replace(batch, inputs=shift_flip(batch.inputs, share.draws))
        if batch.targets.ndim < 3:
            return moved
        # masks move with their images; pixels from beyond the image don't count
        masks = shift_flip(batch.targets[:, None], share.draws, IGNORE)[:, 0]
        whole = masks
        if len(share.whole) > len(share.index):
            whole = shift_flip(self.split.gather(share.whole).targets[:, None], share.whole_draws, IGNORE)
        return replace(moved, targets=masks, total=max(1, int((whole != IGNORE).sum())))


def _as_is(batch: Any) -> Any:
    return batch
