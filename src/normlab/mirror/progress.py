"""A run's progress: a bar on a terminal, one line per validation in a pipe, a file for a study's board."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from normlab.folder.run_folder import RunFolder

REFRESH = 0.25  # seconds between two reads of the loss, each of which waits for the GPU


class Bar(pl.Callback):
    """Steps done, loss, validation metric and time left.

    Args:
        console: the terminal.
        metric: of the task, as in `validation/<metric>`.
    """

    def __init__(self, console: Console, metric: str) -> None:
        self.console = console
        self.metric = metric
        self._bar: Progress | None = None
        self._next = 0.0
        self._total = 0
        self._validation = ""

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Show the empty bar."""
        self._total = int(trainer.estimated_stepping_batches)
        if not trainer.is_global_zero or not self.console.is_terminal:
            return
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, transient=True, refresh_per_second=4)
        self._bar.add_task("", total=self._total)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance, at most every quarter of a second."""
        if self._bar is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REFRESH
        loss = float(outputs["loss"])
        self._bar.update(
            self._bar.task_ids[0],
            completed=trainer.global_step,
            description=f"loss {loss:.3f}{self._validation}",
        )

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Show the new validation metric."""
        value = float(trainer.callback_metrics[f"validation/{self.metric}"])
        loss = float(trainer.callback_metrics["validation/loss"])
        name = self.metric.replace("_", " ")
        self._validation = f" · validation {name} {value:.4f}"
        if self._bar is None and trainer.is_global_zero:
            self.console.print(
                f"step {trainer.global_step}/{self._total} · validation loss {loss:.4f} · {name} {value:.4f}",
                highlight=False,
            )

    def on_train_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Remove the bar."""
        self._close()

    def on_exception(self, trainer: pl.Trainer, task: pl.LightningModule, exception: BaseException) -> None:
        """Remove the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Heartbeat(pl.Callback):
    """Records the run's progress at most once a second, for a study's board."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._next = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, task: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write the progress, if a second has passed."""
        if time.monotonic() < self._next or not trainer.is_global_zero:
            return
        self._next = time.monotonic() + 1
        self.folder.write_progress(trainer.global_step, int(trainer.estimated_stepping_batches))
