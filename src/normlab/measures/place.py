"""Where a run's results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """The folder of a run, and what the run is called elsewhere.

    id       the run's identity; also the folder's name
    attempt  counts from 1; a repeated run is a new attempt
    """

    folder: Path
    id: str
    attempt: int

    @property
    def checkpoints(self) -> Path:
        """Folder of best.ckpt and last.ckpt."""
        return self.folder / "checkpoints"
