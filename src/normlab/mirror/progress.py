"""A run's progress: a bar on a terminal, one line per validation in a pipe, a file for a study's board."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
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
        metrics: of a validation, label → the name under which it is logged; the last is the one that counts.
    """

    def __init__(self, console: Console, metrics: Mapping[str, str]) -> None:
        self.console = console
        self.metrics = metrics
        self._bar: Progress | None = None
        self._next = 0.0
        self._total = 0
        self._validation = ""

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Show the empty bar."""
        self._total = _steps(trainer)
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
        loss = f"loss {float(outputs['loss']):.3f}" if isinstance(outputs, Mapping) and "loss" in outputs else ""
        self._bar.update(self._bar.task_ids[0], completed=trainer.global_step, description=f"{loss}{self._validation}")

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Show the new validation metric."""
        shown = [
            f"{label} {float(trainer.callback_metrics[name]):.4f}"
            for label, name in self.metrics.items()
            if name in trainer.callback_metrics
        ]
        self._validation = f" · {shown[-1]}" if shown else ""
        if self._bar is None and trainer.is_global_zero:
            of = f"/{self._total}" if trainer.global_step <= self._total else ""  # a stream's length isn't known
            self.console.print(" · ".join([f"step {trainer.global_step}{of}", *shown]), highlight=False)

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
        self.folder.write_progress(trainer.global_step, _steps(trainer))


def _steps(trainer: pl.Trainer) -> int:
    """Of the whole training; those done so far if only the loader's end would tell."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if math.isfinite(steps) and steps > 0 else trainer.global_step
