"""The run's own record of every logged value, whatever else shows it."""

from __future__ import annotations

import json
import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from normlab.mirror.loggers import read_rows


class RunRecord(Logger):
    """Every logged value as a line of `metrics.jsonl`: `{"step": 50, "time": 1.7e9, "train/loss": 0.7, …}`.

    `time` is in seconds since 1970.

    Args:
        folder: of the run.
        rows: lines to keep of what is there; a resumed run repeats those that an interrupted one logged later.
    """

    def __init__(self, folder: Path, rows: int = 0) -> None:
        super().__init__()
        self.path = folder / "metrics.jsonl"
        self.rows = rows
        self._keep()

    @rank_zero_only
    def _keep(self) -> None:
        if self.path.exists():
            with self.path.open("rb+") as file:
                for _ in range(self.rows):
                    file.readline()
                file.truncate()

    def kept(self) -> list[dict[str, Any]]:
        """The rows that a resumed run begins with."""
        return read_rows(self.path)[: self.rows] if self.rows else []

    @property
    def name(self) -> str:
        """The folder of checkpoints is chosen elsewhere."""
        return "record"

    @property
    def version(self) -> str:
        """A run folder holds one record."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        values = {name: value for name, value in metrics.items() if name != "epoch"}
        row = {"step": step, "time": time.time(), **finite(values)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self.rows += 1

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config has a file of its own."""


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with null for every number that is not finite: JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
