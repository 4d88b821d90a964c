"""What every run needs: torch set up, data, the untrained model, batches and loggers. Imports Lightning only to log."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from normlab.config.schema import InputError, RunConfig
from normlab.config.seeds import derive
from normlab.data.batch import Batch
from normlab.data.fitted import Fitted
from normlab.data.load import Data, load
from normlab.data.loader import loader
from normlab.folder.place import Place
from normlab.models.base import Model
from normlab.models.build import build_model
from normlab.session.devices import device_of, set_up

if TYPE_CHECKING:
    from normlab.session.loggers import Loggers


class Session:
    """What every measure starts from.

    Args:
        config: of the run.
        place: its folder.
        known: for an evaluation, what was fitted on the training data of its checkpoint.

    Attributes:
        device: of a run with one process.

    Raises:
        InputError: the machine lacks what the config asks for, or the data can't be used.
    """

    def __init__(self, config: RunConfig, place: Place, known: Fitted | None = None) -> None:
        set_up(config)
        self.config = config
        self.place = place
        self.device = device_of(config.trainer)
        self.known = known
        if config.task.source != "own":
            self.data  # noqa: B018  what can't be read is said at once

    @cached_property
    def data(self) -> Data:
        """The task's data, on the CPU; a Lightning project has its own."""
        return load(self.config.task, Path(self.config.cache), self.known)

    def seed(self, *purpose: str | int) -> int:
        """The seed for one purpose, such as `seed("order")`."""
        return derive(self.config.seed, *purpose)

    def model(self, norm: dict[str, Any] | None = None) -> Model:
        """The untrained model on the CPU, with the config's norm or another; tensors that both share start equal."""
        torch.manual_seed(self.seed("init"))
        return build_model(norm or self.config.norm, self.config.model, self.data.sizes)

    def sample(self, count: int, option: str) -> Batch:
        """Random examples of the training split, on the CPU.

        Raises:
            InputError: it has fewer; the message names `option` as the one that requests so many.
        """
        split = self.data.split("train")
        index = split.shuffled(torch.Generator().manual_seed(self.seed("inputs")))[:count]
        if len(index) < count:
            raise InputError(f"{option}={count}: the training split of task={self.data.name} has {len(index)} examples")
        return split.gather(index)

    def batches(
        self, split: str, device: torch.device, *, seed: int | None = None, rank: int = 0, world_size: int = 1
    ) -> Any:
        """A loader of one split, with tensors on `device`: this process's share of each batch.

        Args:
            seed: for the order and composition of training batches; None: in order, in batches for evaluation.
        """
        task, examples = self.config.task, self.data.split(split).to(device)
        if seed is None:
            return loader(examples, task.eval_batch_size, rank=rank, world_size=world_size)
        return loader(
            examples,
            task.batch_size,
            seed=seed,
            bucket=task.bucket,
            classes_per_batch=task.classes_per_batch,
            augment=task.augment,
            rank=rank,
            world_size=world_size,
        )

    def training_batches(self) -> Iterator[Batch]:
        """Endless training batches on the device, in the order of measure=training."""
        batches = self.batches("train", self.device, seed=self.seed("order"))
        for epoch in itertools.count():
            batches.batch_sampler.sampler.set_epoch(epoch)
            yield from batches

    @cached_property
    def loggers(self) -> Loggers:
        """The run's record and its mirrors, opened when first needed."""
        from normlab.session.loggers import Loggers

        return Loggers(self.config, self.place)

    def log(self, values: dict[str, Any], step: int) -> None:
        """Log one row."""
        self.loggers.log(values, step)

    def finish(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Close the loggers; returns the summary as recorded, with null for each number that is not finite."""
        return self.loggers.close(summary)
