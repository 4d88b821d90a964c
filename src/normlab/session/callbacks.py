"""What training reports while it runs. Nothing here costs a step more than a list append."""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from normlab.data.batch import Batch
from normlab.folder.run_folder import RunFolder
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
        """Log beside the validation metrics what they cost, so that they can be plotted against it."""
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
        """Go on counting."""
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


class Curve(pl.Callback):
    """The validation metrics of every validation, in order, with the step, examples and training seconds until then.

    The best one's row is the run's result, beside the confusion matrix of that validation where the task has one.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.confusion: Tensor | None = None

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Keep the row; a loss that is not finite ends the run."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {name: value for name, value in values.items() if name.startswith("validation/")}
        until = {"examples": int(values["train/examples"]), "seconds": values["train/seconds"]}
        self.rows.append({"step": trainer.global_step, **until, **row})
        assert isinstance(task, Task)
        if self.best(task) is self.rows[-1]:
            self.confusion = task.confusion
        if not math.isfinite(row["validation/loss"]):
            stop_diverged(trainer, task)

    def state_dict(self) -> dict[str, Any]:
        """All rows so far, and the best one's confusion matrix."""
        return {"rows": self.rows, "confusion": self.confusion}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after them."""
        self.rows, self.confusion = list(state["rows"]), state["confusion"]

    @property
    def last_step(self) -> int | None:
        """The step of the last validation."""
        return int(self.rows[-1]["step"]) if self.rows else None

    def best(self, task: Task) -> dict[str, float] | None:
        """The row with the best value of the task's metric; None if every one diverged."""
        name = f"validation/{task.metric}"
        rows = [row for row in self.rows if math.isfinite(row["validation/loss"])]
        pick = max if task.direction == "max" else min
        return pick(rows, key=lambda row: row[name]) if rows else None

    def area(self, metric: str) -> float | None:
        """Area under the curve of a validation metric over steps, divided by the steps it spans (trapezoids).

        From the first validation to the last; None with fewer than two.
        """
        steps, values = ([row[name] for row in self.rows] for name in ("step", f"validation/{metric}"))
        if len(steps) < 2:
            return None
        pairs = zip(pairwise(steps), pairwise(values), strict=True)
        return sum((s1 - s0) * (v0 + v1) / 2 for (s0, s1), (v0, v1) in pairs) / (steps[-1] - steps[0])


class Heartbeat(pl.Callback):
    """Keeps the run's progress up to date, at most once a second: what a sweep's board shows of a running run."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._next = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Write where the run is, if a second has passed."""
        if time.monotonic() < self._next or not trainer.is_global_zero:
            return
        self._next = time.monotonic() + 1
        self.folder.write_progress(trainer.global_step, int(trainer.estimated_stepping_batches))


def _of_every_process(trainer: pl.Trainer, values: Tensor) -> Tensor:
    """[n] → [processes, n], on the CPU."""
    gathered = trainer.strategy.all_gather(values)
    return gathered.reshape(trainer.world_size, -1).cpu()


def stop_diverged(trainer: pl.Trainer, task: pl.LightningModule) -> None:
    """End the run as diverged."""
    assert isinstance(task, Task)
    task.diverged = True
    trainer.should_stop = True
