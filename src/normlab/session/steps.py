"""One training step in a plain loop, for measures that need a few steps but no validations or checkpoints."""

from __future__ import annotations

from torch.optim import Optimizer

from normlab.data.batch import Batch
from normlab.tasks.task import Task


def step(task: Task, optimiser: Optimizer, batch: Batch) -> float:
    """Do one optimiser step; returns the mean loss before it. If that is not finite, no step is done."""
    loss = task.losses(task.model(batch.inputs, batch.mask), batch) / batch.total
    if loss.isfinite():
        optimiser.zero_grad()
        loss.backward()
        task.configure_gradient_clipping(optimiser)
        optimiser.step()
    return float(loss.detach())
