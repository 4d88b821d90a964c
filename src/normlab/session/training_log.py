"""What training logs at intervals: loss, learning rate, examples and seconds. A step costs one list append."""

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

    The losses between two reports stay on the device as tensors. A loss that is not finite ends the run,
    which is an outcome (`task.diverged`) and no error.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self.examples = 0  # seen by all processes
        self.seconds = 0.0  # training time, validation left out
        self._own_examples = 0  # seen by this process
        self._losses: list[Tensor] = []
        self._since = 0.0

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Start the clock; a resumed epoch has no start of its own."""
        self._since = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Stop the clock."""
        self._tick()

    def on_validation_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Log what the validation metrics cost along with them, so that they can be plotted against it."""
        self._count(trainer, task)
        values = {"train/examples": self.examples, "train/seconds": self.seconds}
        # float32 counts to 16 million only
        exact = torch.tensor(list(values.values()), dtype=torch.float64, device=task.device)
        task.log_dict(dict(zip(values, exact, strict=True)))

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Start it again."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Keep the loss; report when it is time."""
        self._losses.append(outputs["loss"].detach())
        self._own_examples += len(batch.inputs)
        if trainer.global_step % self.every == 0:
            self._report(trainer, task)

    def on_train_epoch_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Report what is left of the epoch, so that a short one is seen too."""
        self._report(trainer, task)

    def on_save_checkpoint(self, trainer: pl.Trainer, task: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what has been counted since the last report, of every process."""
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
