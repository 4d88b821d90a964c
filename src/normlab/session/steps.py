"""A few training steps in a plain loop, without validations or checkpoints, and what a network learns in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean

import torch
from torch.optim import Optimizer

from normlab.data.batch import Batch
from normlab.data.load import Data
from normlab.data.loader import loader
from normlab.tasks.optimiser import build_optimiser
from normlab.tasks.task import Task


def step(task: Task, optimiser: Optimizer, batch: Batch) -> float:
    """Do one optimiser step; returns the mean loss before it. If the objective is not finite, no step is done."""
    objective, loss = task.objective(batch)
    if objective.isfinite():
        optimiser.zero_grad()
        objective.backward()
        task.configure_gradient_clipping(optimiser)
        optimiser.step()
    return float((loss if objective.isfinite() else objective).detach())


def last_loss(task: Task, batches: Iterable[Batch]) -> float:
    """Mean loss over the last fifth of the steps on these batches; NaN as soon as one is not finite."""
    optimiser = build_optimiser(task.model, task.optim)
    task.train()
    losses = []
    for batch in batches:
        losses.append(step(task, optimiser, batch))
        if not math.isfinite(losses[-1]):
            return math.nan
    return fmean(losses[-max(1, len(losses) // 5) :])


def entropy_of_targets(data: Data, batch_size: int) -> float:
    """Entropy of the training split's targets, nats."""
    counts = torch.zeros(data.sizes.outputs, dtype=torch.float64)
    for batch in loader(data.split("train"), batch_size):
        targets = batch.targets if batch.mask is None or batch.targets.ndim == 1 else batch.targets[batch.mask]
        counts += torch.bincount(targets.flatten().cpu(), minlength=len(counts))
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * shares.log()).sum())
