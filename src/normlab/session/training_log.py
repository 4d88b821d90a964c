"""Logs loss, learning rate, examples and seconds of training at intervals. Each step costs one list append."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from normlab.data.batch import Batch
from normlab.tasks.task import Task


class TrainingLog(pl.Callback):
    """Logs training loss, learning rate, examples and seconds every so many steps; notices divergence.

    The losses between two reports stay on the device as tensors. A loss that is not finite ends the run, which is an
    outcome (`task.diverged`), not an error.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.examples = 0  # seen by all processes
        self.seconds = 0.0  # training time without validation
        self._own_examples = 0  # seen by this process
        self._losses: list[Tensor] = []
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Start the clock, because Lightning doesn't report the start of a resumed epoch."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Stop the clock."""
        self._tick()

    def on_validation_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Log examples and seconds with the validation metrics, so that the metrics can be plotted against them."""
        self._count(trainer, task)
        values = {"train/examples": self.examples, "train/seconds": self.seconds}
        # float32 counts only to 16 million
        exact = torch.tensor(list(values.values()), dtype=torch.float64, device=task.device)
        task.log_dict(dict(zip(values, exact, strict=True)))

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Restart the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keep the loss; report every so many steps."""
        self._losses.append(outputs["loss"].detach())
        self._own_examples += len(batch.inputs)
        if trainer.global_step % self.every == 0:
            self._report(trainer, task)

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Report the rest of the epoch, so that a short one is logged too."""
        self._report(trainer, task)

    def on_save_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save what every process has counted since the last report."""
        pending = torch.stack(self._losses) if self._losses else torch.zeros(0, device=task.device)
        own = torch.tensor([self._own_examples], device=task.device)
        checkpoint["training_log"] = {
            "losses": _of_every_process(trainer, pending),
            "own_examples": _of_every_process(trainer, own),
            "examples": self.examples,
            "seconds": self.seconds,
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Resume counting."""
        kept, rank = checkpoint["training_log"], trainer.global_rank
        self._losses = list(kept["losses"][rank].to(task.device))
        self._own_examples = int(kept["own_examples"][rank])
        self.examples, self.seconds = kept["examples"], kept["seconds"]

    def _report(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        if not self._losses:
            return
        self._tick()
        loss = float(trainer.strategy.reduce(torch.stack(self._losses).mean(), reduce_op="mean"))
        self._count(trainer, task)
        self._losses.clear()
        values = {
            "train/loss": loss,
            "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
            "train/examples": self.examples,
            "train/seconds": self.seconds,
        }
        for logger in trainer.loggers:
            logger.log_metrics(values, step=trainer.global_step)
        if not math.isfinite(loss):
            stop_diverged(trainer, task)

    def _count(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        seen = torch.tensor(self._own_examples, device=task.device)
        self.examples = int(trainer.strategy.reduce(seen, reduce_op="sum"))

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now


def _of_every_process(trainer: pl.Trainer, values: Tensor) -> Tensor:
    """[n] → [processes, n], on the CPU."""
    gathered = trainer.strategy.all_gather(values)
    return gathered.reshape(trainer.world_size, -1).cpu()


def stop_diverged(trainer: pl.Trainer, task: pl.LightningModule) -> None:
    """End the run as diverged."""
    assert isinstance(task, Task)
    task.diverged = True
    trainer.should_stop = True
