"""The run's own record of every logged value, whatever else shows it."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from normlab.folder.run_folder import RunFolder


class RunRecord(Logger):
    """Every logged value, as a row in the run's own folder.

    Args:
        folder: of the run.
        rows: lines to keep of what is there; a resumed run repeats those that an interrupted one logged later.
    """

    def __init__(self, folder: RunFolder, rows: int = 0) -> None:
        super().__init__()
        self.folder = folder
        self.rows = rows
        self._keep()

    @rank_zero_only
    def _keep(self) -> None:
        self.folder.keep_rows(self.rows)

    def kept(self) -> list[dict[str, Any]]:
        """The rows that a resumed run begins with."""
        return self.folder.read_rows().rows[: self.rows] if self.rows else []

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
        self.folder.append_row({"step": step, "time": time.time(), **finite(values)})
        self.rows += 1

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The config has a file of its own."""


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same with null for every number that is not finite: JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
