"""Training in a plain loop, for measures that need a few steps and neither validations nor checkpoints."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from normlab.config.schema import RunConfig
from normlab.config.seeds import derive
from normlab.data.batch import Batch
from normlab.data.load import Data
from normlab.data.loader import loader
from normlab.tasks.task import Task


def device_of(config: RunConfig) -> torch.device:
    """Where a run of one process computes."""
    return torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")


def training_batches(config: RunConfig, data: Data) -> Iterator[Batch]:
    """Batches of the training split without end, in the order in which measure=training takes them."""
    split = data.split("train").to(device_of(config))
    order = derive(config.seed, "order")
    batches: Any = loader(
        split,
        config.task.batch_size,
        seed=order,
        bucket=config.task.bucket,
        classes_per_batch=config.task.classes_per_batch,
        augment=config.task.augment,
    )
    for epoch in itertools.count():
        batches.batch_sampler.sampler.set_epoch(epoch)
        yield from batches


def step(task: Task, optimiser: Optimizer, batch: Batch) -> float:
    """One optimiser step; the mean loss before it. There is no step if that is not finite."""
    loss = task.losses(task.model(batch.inputs, batch.mask), batch) / batch.total
    if loss.isfinite():
        optimiser.zero_grad()
        loss.backward()
        task.configure_gradient_clipping(optimiser)
        optimiser.step()
    return float(loss.detach())
