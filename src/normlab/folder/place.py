"""Where a run's results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from normlab.folder.resume_points import ResumePoint


@dataclass(frozen=True)
class Place:
    """The folder of a run, and what the run is called elsewhere.

    id       the run's identity; also the folder's name
    attempt  counts from 1; a repeated run is a new attempt, a resumed one is not
    resume   where an interrupted run goes on; None: at the beginning
    """

    folder: Path
    id: str
    attempt: int
    resume: ResumePoint | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of best.ckpt, last.ckpt and the resume points."""
        return self.folder / "checkpoints"

    @property
    def resume_checkpoint(self) -> Path | None:
        """The checkpoint to go on from."""
        return self.checkpoints / self.resume.file if self.resume else None
