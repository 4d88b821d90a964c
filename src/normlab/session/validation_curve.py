"""The validations of a run, and the best of them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from normlab.session.training_log import stop_diverged
from normlab.tasks.task import Task


class Curve(pl.Callback):
    """The rows of all validations, in order, each with its step and metrics.

    Args:
        metric: column that chooses the best.
        direction: max or min.
        finite: column that must be a finite number in the best.
    """

    def __init__(self, metric: str, direction: str, finite: str) -> None:
        self.metric, self.direction, self.finite = metric, direction, finite
        self.rows: list[dict[str, float]] = []

    def state_dict(self) -> dict[str, Any]:
        """All rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them; later validations are appended."""
        self.rows = list(state["rows"])
        if not all(isinstance(value, int | float) for row in self.rows for value in row.values()):
            raise ValueError("its validations are not numbers")

    @property
    def last_step(self) -> int | None:
        """The step of the last validation."""
        return int(self.rows[-1]["step"]) if self.rows else None

    def best(self) -> dict[str, float] | None:
        """The row with the best value of the metric; None if none is finite."""
        rows = [row for row in self.rows if math.isfinite(row[self.finite])]
        pick = max if self.direction == "max" else min
        return pick(rows, key=lambda row: row[self.metric]) if rows else None

    def area(self, column: str) -> float | None:
        """Area under the curve of a column over steps (trapezoids), divided by the number of steps it spans.

        From the first validation to the last; None with fewer than two.
        """
        steps, values = ([row[name] for row in self.rows] for name in ("step", column))
        if len(steps) < 2:
            return None
        pairs = zip(pairwise(steps), pairwise(values), strict=True)
        return sum((s1 - s0) * (v0 + v1) / 2 for (s0, s1), (v0, v1) in pairs) / (steps[-1] - steps[0])


class ValidationCurve(Curve):
    """The validations of a task, with the examples and training seconds until then.

    The best validation's row is the run's result, with its confusion matrix if the task has one.
    """

    def __init__(self, metric: str, direction: str) -> None:
        super().__init__(f"validation/{metric}", direction, "validation/loss")
        self.confusion: Tensor | None = None

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Keep the row; a loss that is not finite ends the run."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = {name: value for name, value in values.items() if name.startswith("validation/")}
        until = {"examples": int(values["train/examples"]), "seconds": values["train/seconds"]}
        self.rows.append({"step": trainer.global_step, **until, **row})
        assert isinstance(task, Task)
        if self.best() is self.rows[-1]:
            self.confusion = task.confusion
        if not math.isfinite(row["validation/loss"]):
            stop_diverged(trainer, task)

    def state_dict(self) -> dict[str, Any]:
        """All rows so far, and the best one's confusion matrix."""
        return {**super().state_dict(), "confusion": self.confusion}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore them."""
        super().load_state_dict(state)
        self.confusion = state["confusion"]
