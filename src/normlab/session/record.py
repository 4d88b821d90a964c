"""The run's own record of every logged value, independent of other loggers."""

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
    """Writes every logged value to the run's folder, one row per call.

    Args:
        folder: of the run.
        rows: how many existing rows to keep; a resumed run logs the later ones again.
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
        """The existing rows that a resumed run keeps."""
        return self.folder.read_rows().rows[: self.rows] if self.rows else []

    @property
    def name(self) -> str:
        """Required by Lightning; the folder of checkpoints is chosen elsewhere."""
        return "record"

    @property
    def version(self) -> str:
        """Required by Lightning; a run folder has only one record."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line."""
        self.append({name: value for name, value in metrics.items() if name != "epoch"}, step)

    @rank_zero_only
    def append(self, values: Mapping[str, Any], step: int | None) -> None:
        """Append one line as it is."""
        self.folder.append_row({"step": step, "time": time.time(), **finite(values)})
        self.rows += 1

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the config has its own file."""


def finite(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with null for every number that is not finite, because JSON has no NaN."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
