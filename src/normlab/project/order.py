"""The order of a project's training data, and all that its loaders draw, as a function of (seed, epoch, batch).

So batches are the same for every norm, and for a run that resumes; no state of a random generator needs saving.
"""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch import Tensor

from normlab.config.seeds import derive

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
        expected: hashes of the first batches, as drawn before.

    Attributes:
        resumed: epoch and batch at which a resumed run continues.
        epoch, batch: the present ones.
        first: hashes of the first batches.
    """

    def __init__(self, seed: int, expected: Sequence[str] = ()) -> None:
        self.seed, self.epoch, self.batch = seed, 0, 0
        self.expected = expected
        self.resumed: tuple[int, int] | None = None
        self._validates = False
        self._steps = 0  # by which Lightning numbers what is logged
        self._steps_before: int | None = None  # those of a resumed run
        self.first: list[str] = []

    def apply(self, source: pl.LightningModule | pl.LightningDataModule) -> None:
        """From now on, the loaders that `source.train_dataloader` gives are ordered."""
        original = source.train_dataloader

        def train_dataloader() -> Any:
            return self._each(original())

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
        """Epoch and batch, and the hashes of the first batches."""
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "first": self.first,
            "repeatable": self.repeatable,
            "steps": self._steps,
        }

    @property
    def repeatable(self) -> bool:
        """Are the first batches the expected ones, as far as they have been drawn?"""
        return all(one == other for one, other in zip(self.expected, self.first, strict=False))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        self.resumed, self.first = (self.epoch, self.batch), list(state["first"])
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

    def _each(self, loaders: Any) -> Any:
        if isinstance(loaders, CombinedLoader):
            loaders.flattened = [self._each(loader) for loader in loaders.flattened]
            return loaders
        if isinstance(loaders, Mapping):
            return {name: self._each(loader) for name, loader in loaders.items()}
        if isinstance(loaders, list | tuple):
            return [self._each(loader) for loader in loaders]
        return Ordered(loaders, self)


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
        seed_all(derive(seed, "order", epoch, self._passes))
        if getattr(self.loader, "_iterator", None) is not None:  # persistent workers keep their own state
            self.loader._iterator = None
        batches = iter(self.loader)
        for index in count():
            seed_all(derive(seed, "batch", epoch, self._passes, index))
            try:
                batch = next(batches)
            except StopIteration:
                return
            if self._passes == 1:
                self.order.see(epoch, index, batch)
            if self._skip:
                self._skip -= 1
                continue
            yield batch


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
