"""The validations of a run, and the best of them."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from normlab.session.training_log import stop_diverged
from normlab.tasks.task import Task


class ValidationCurve(pl.Callback):
    """The metrics of every validation, in order, with the step, examples and training seconds until then.

    The best validation's row is the run's result, with its confusion matrix if the task has one.
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
        """Restore them; later validations are appended."""
        self.rows, self.confusion = list(state["rows"]), state["confusion"]
        if not all(isinstance(value, int | float) for row in self.rows for value in row.values()):
            raise ValueError("its validations are not numbers")

    @property
    def last_step(self) -> int | None:
        """The step of the last validation."""
        return int(self.rows[-1]["step"]) if self.rows else None

    def best(self, task: Task) -> dict[str, float] | None:
        """The row with the best value of the task's metric; None if every loss is not finite."""
        name = f"validation/{task.metric}"
        rows = [row for row in self.rows if math.isfinite(row["validation/loss"])]
        pick = max if task.direction == "max" else min
        return pick(rows, key=lambda row: row[name]) if rows else None

    def area(self, metric: str) -> float | None:
        """Area under the curve of a validation metric over steps (trapezoids), divided by the number of steps it spans.

        From the first validation to the last; None with fewer than two.
        """
        steps, values = ([row[name] for row in self.rows] for name in ("step", f"validation/{metric}"))
        if len(steps) < 2:
            return None
        pairs = zip(pairwise(steps), pairwise(values), strict=True)
        return sum((s1 - s0) * (v0 + v1) / 2 for (s0, s1), (v0, v1) in pairs) / (steps[-1] - steps[0])
