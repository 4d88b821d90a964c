"""All loggers of a run, opened, used and closed together."""

from __future__ import annotations

from typing import Any

from pytorch_lightning.loggers import Logger

from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.mirror.loggers import build_mirrors, close_mirrors
from normlab.session.record import RunRecord, finite


class Loggers:
    """The run's own record and its mirrors.

    Args:
        config, place: of the run.
    """

    def __init__(self, config: RunConfig, place: Place) -> None:
        self.record = RunRecord(place, place.resume.rows if place.resume else 0)
        self.mirrors = build_mirrors(config, place, self.record.kept(), lambda: self.record.rows)

    @property
    def all(self) -> list[Logger]:
        """The record comes first because the mirrors count its rows."""
        return [self.record, *self.mirrors]

    def log(self, values: dict[str, Any], step: int) -> None:
        """Log one row."""
        for logger in self.all:
            logger.log_metrics(values, step=step)

    def close(self, summary: dict[str, Any]) -> dict[str, Any]:
        """Close all loggers with the run's summary, which is empty if the run was stopped.

        Returns:
            The summary as it is recorded, with null for each number that is not finite.
        """
        summary = finite(summary)
        close_mirrors(self.mirrors, summary)
        return summary
