"""The order of a project's training data, and all that its loaders draw, as a function of (seed, epoch, batch).

So batches are the same for every norm, and for a run that resumes; no state of a random generator needs saving. Of
several processes each has its own share of the order, as Lightning gives it, and draws its own augmentation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from pytorch_lightning.trainer.states import RunningStage
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from normlab.config.seeds import derive
from normlab.project.processes import gathered

FIRST = 2  # batches of the first epoch that are hashed


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Order(pl.Callback):
    """Orders the training batches of a project.

    Args:
        seed: of the run.
        expected: hashes of this process's first batches, as drawn before.

    Attributes:
        resumed: epoch and batch at which a resumed run continues.
        epoch, batch: the present ones.
        first: hashes of this process's first batches.
        share: what tells this process's random numbers from those of others; empty if it is alone.
    """

    def __init__(self, seed: int, expected: Sequence[str] = ()) -> None:
        self.seed, self.epoch, self.batch = seed, 0, 0
        self.expected = expected
        self.resumed: tuple[int, int] | None = None
        self._validates = False
        self._steps = 0  # by which Lightning numbers what is logged
        self._steps_before: int | None = None  # those of a resumed run
        self.first: list[str] = []
        self.share: tuple[str | int, ...] = ()

    def apply(self, source: pl.LightningModule | pl.LightningDataModule, trainer: pl.Trainer) -> None:
        """From now on, the loaders that `source.train_dataloader` gives are ordered."""
        original = source.train_dataloader

        def train_dataloader() -> Any:
            self.share = ("process", trainer.global_rank) if trainer.world_size > 1 else ()
            return self._each(original(), trainer)

        source.train_dataloader = train_dataloader  # type: ignore[method-assign]

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the place, for a resume point that is saved now."""
        loop = trainer.fit_loop.epoch_loop
        if self._steps_before is not None:  # of a resumed run, the first batch
            # Lightning counts one step too many when it resumes before a step, not after one
            loop._batches_that_stepped, self._steps_before = self._steps_before, None
            # and would leave out ReduceLROnPlateau at the end of this epoch, as if its metrics were not known then
            trainer.fit_loop._restarting = False
        self.epoch, self.batch, self._steps = trainer.current_epoch, batch_idx, loop._batches_that_stepped

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """A project may validate with its training loader."""
        self._validates = True

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Back to training."""
        self._validates = False

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """The next batch is one of the next epoch."""
        self.epoch = trainer.current_epoch + 1

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batch."""
        return {"epoch": self.epoch, "batch": self.batch, "steps": self._steps}

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the hashes of the first batches of every process."""
        repeatable = all(gathered(self.repeatable))
        checkpoint["first_batches"] = {"hashes": gathered(self.first), "repeatable": repeatable}

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep this process's."""
        self.first = list(checkpoint["first_batches"]["hashes"][trainer.global_rank])

    @property
    def repeatable(self) -> bool:
        """Are the first batches the expected ones, as far as they have been drawn?"""
        return all(one == other for one, other in zip(self.expected, self.first, strict=False))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        self.resumed = self.epoch, self.batch
        self._steps = self._steps_before = int(state["steps"])

    def done(self, epoch: int) -> int:
        """How many batches of an epoch had been done when the run resumed."""
        if self._validates or self.resumed is None or self.resumed[0] != epoch:
            return 0
        return self.resumed[1]

    def see(self, epoch: int, index: int, batch: Any) -> None:
        """Hash one of the first batches."""
        if epoch == 0 and index == len(self.first) < FIRST:
            digest = hashlib.sha256()
            _hash(digest, batch)
            self.first.append(digest.hexdigest()[:8])

    def _each(self, loaders: Any, trainer: pl.Trainer | None = None) -> Any:
        if isinstance(loaders, CombinedLoader):
            loaders.flattened = [self._each(loader, trainer) for loader in loaders.flattened]
            return loaders
        if isinstance(loaders, Mapping):
            return {name: self._each(loader, trainer) for name, loader in loaders.items()}
        if isinstance(loaders, list | tuple):
            return [self._each(loader, trainer) for loader in loaders]
        return Ordered(loaders if trainer is None else self._shared(loaders, trainer), self)

    def _shared(self, loader: Any, trainer: pl.Trainer) -> Any:
        """The loader of this process's share, as Lightning makes it, in an order that the run's seed decides."""
        shared: Any = trainer._data_connector._prepare_dataloader(loader, shuffle=True, mode=RunningStage.TRAINING)
        if shared is not loader:
            for sampler in (shared.sampler, getattr(shared.batch_sampler, "sampler", None)):
                if isinstance(sampler, DistributedSampler):
                    sampler.seed = derive(self.seed, "order")
        return shared


class Ordered:
    """A loader whose n-th pass over an epoch is always the same; what else one asks of it, the loader answers."""

    def __init__(self, loader: Any, order: Order) -> None:
        self.loader, self.order = loader, order
        self._epoch, self._passes, self._skip = -1, 0, 0

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # of a copy that is being made
            raise AttributeError(name)
        return getattr(self.loader, name)

    def __iter__(self) -> Iterator[Any]:
        """The batches, from the first one that a resumed run needs; a shorter loader of several starts again."""
        epoch, seed = self.order.epoch, self.order.seed
        if epoch != self._epoch:
            self._epoch, self._passes, self._skip = epoch, 0, self.order.done(epoch)
        self._passes += 1
        passes = self._passes
        seed_all(derive(seed, "order", epoch, passes))
        _set_sampler_epoch(self.loader, epoch)  # Lightning does so too late when it resumes
        if getattr(self.loader, "_iterator", None) is not None:  # persistent workers keep their own state
            self.loader._iterator = None
        batches = self._of_one_of_several(epoch) if self.order.share else iter(self.loader)
        for index in count():
            of = ("batch", epoch, passes, index)
            seed_all(derive(seed, *of, *self.order.share))
            try:
                batch = next(batches)
            except StopIteration:
                return
            if passes == 1:
                self.order.see(epoch, index, batch)
            if self._skip:
                self._skip -= 1
                continue
            yield batch

    def _of_one_of_several(self, epoch: int) -> Iterator[Any]:
        """Batches of one of several processes: its workers draw their own numbers, samplers the same in all."""
        seed, passes = self.order.seed, self._passes
        if not isinstance(self.loader, DataLoader):
            return iter(self.loader)
        generator = self.loader.generator
        if generator is None:  # a project's own stays
            workers = derive(seed, "workers", epoch, passes, *self.order.share)
            self.loader.generator = torch.Generator().manual_seed(workers)
        batches: Any = iter(self.loader)
        self.loader.generator = generator
        if hasattr(batches, "_sampler_iter"):  # a class of the project's own may iterate in its own way
            batches._sampler_iter = _Alike(batches._sampler_iter, derive(seed, "sampler", epoch, passes))
        return iter(batches)


class _Alike:
    """What a sampler draws, the same in each process though other random numbers differ: else shares would overlap."""

    def __init__(self, indices: Iterator[Any], seed: int) -> None:
        self.indices, self.seed, self.drawn = indices, seed, 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        self.drawn += 1
        with _kept_random():
            seed_all(derive(self.seed, self.drawn))
            return next(self.indices)


@contextmanager
def _kept_random() -> Iterator[None]:
    """Puts the random states of Python, NumPy and torch back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _hash(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        digest.update(f"{plain.dtype} {list(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key, item in value.items():
            digest.update(repr(key).encode())
            _hash(digest, item)
    elif isinstance(value, list | tuple):
        for item in value:
            _hash(digest, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _hash(digest, [getattr(value, field.name) for field in dataclasses.fields(value)])
    elif isinstance(value, str | bytes | int | float | None):
        digest.update(repr(value).encode())
    else:  # objects whose text may be their address
        digest.update(type(value).__name__.encode())
