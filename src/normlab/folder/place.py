"""The folder of the run that this process works on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from normlab.folder.resume_points import ResumePoint
from normlab.folder.run_folder import RunFolder


@dataclass(frozen=True)
class Place(RunFolder):
    """The folder of the run that this process works on.

    id       the run's identity; also the folder's name
    attempt  counts from 1; a repeated run is a new attempt, a resumed one is not
    resume   the point from which an interrupted run resumes; None: it starts from the beginning
    """

    id: str
    attempt: int
    resume: ResumePoint | None = None

    @property
    def resume_checkpoint(self) -> Path | None:
        """The checkpoint to resume from."""
        return self.resume.checkpoint(self) if self.resume else None
