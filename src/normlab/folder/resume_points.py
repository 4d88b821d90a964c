"""Where an interrupted run can go on. Imports no torch.

A resume point is a checkpoint between two training steps, with the lines that the run's record held then. The
last two are kept, so that a damaged one costs the time between them and not the run.
"""

from __future__ import annotations

import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.run_folder import RunFolder

KEPT = 2


@dataclass(frozen=True)
class ResumePoint:
    """One of them.

    file      the checkpoint, in the run's `checkpoints/`
    step      optimiser steps done
    rows      rows logged by then
    rows_sha  SHA-256 of those rows
    """

    file: str
    step: int
    rows: int
    rows_sha: str = ""

    @classmethod
    def after(cls, step: int, rows: int) -> ResumePoint:
        """A point that is about to be saved."""
        return cls(f"resume-{step}.ckpt", step, rows)


def list_points(folder: Path) -> list[ResumePoint]:
    """The resume points of a run's folder, the newest first; a damaged list counts as empty."""
    try:
        return [ResumePoint(**point) for point in read_json(RunFolder(folder).resume_file).get("points", [])]
    except TypeError:
        return []


def add_point(folder: Path, point: ResumePoint) -> None:
    """Record a checkpoint that has been written whole, and drop what is no longer needed."""
    point = replace(point, rows_sha=RunFolder(folder).hash_rows(point.rows))
    others = [known for known in list_points(folder) if known.file != point.file]
    points = [point, *others][:KEPT]
    write_json(RunFolder(folder).resume_file, {"points": [asdict(known) for known in points]})
    _remove_checkpoints(folder, {known.file for known in points})


def forget_points(folder: Path) -> None:
    """A finished run needs none."""
    RunFolder(folder).resume_file.unlink(missing_ok=True)
    _remove_checkpoints(folder, set())


def newest_intact(folder: Path) -> ResumePoint | None:
    """The newest point whose checkpoint is undamaged and whose record is still there."""
    for point in list_points(folder):
        run = RunFolder(folder)
        if is_intact(run.checkpoints / point.file) and run.hash_rows(point.rows) == point.rows_sha:
            return point
    return None


def is_intact(checkpoint: Path) -> bool:
    """Does every part of the archive match its checksum? torch itself loads flipped bits without a word."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _remove_checkpoints(folder: Path, kept: set[str]) -> None:
    for path in RunFolder(folder).checkpoints.glob("resume-*.ckpt"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
