"""The points from which an interrupted run can resume. Imports no torch.

A resume point is a checkpoint between two training steps, with the rows that the run had logged and its best checkpoint
at that time, because the later part of the run may differ when it is repeated, for example on another processor. The
last two points are kept, so that a damaged one costs only the time between them.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.run_folder import RunFolder
from normlab.folder.seal import is_whole

KEPT = 2


@dataclass(frozen=True)
class ResumePoint:
    """A resume point.

    file      the checkpoint, in the run's folder of checkpoints
    step      optimiser steps done
    rows      rows logged by then
    has_best  whether there was a best checkpoint by then
    rows_sha  SHA-256 of those rows
    """

    file: str
    step: int
    rows: int
    has_best: bool = False
    rows_sha: str = ""

    def checkpoint(self, run: RunFolder) -> Path:
        """Its file, which is always in the run's own folder, whatever the record says."""
        return run.checkpoints / Path(self.file).name

    def best(self, run: RunFolder) -> Path:
        """The best checkpoint of that time."""
        return self.checkpoint(run).with_suffix(".best.ckpt")

    @classmethod
    def after(cls, step: int, rows: int, *, has_best: bool = False) -> ResumePoint:
        """A point that is about to be saved."""
        return cls(f"resume-{step}.ckpt", step, rows, has_best)


def list_points(folder: Path) -> list[ResumePoint]:
    """The resume points of a run's folder, the newest first; a damaged list counts as empty."""
    points = read_json(RunFolder(folder).resume_file).get("points", [])
    try:
        return TypeAdapter(list[ResumePoint]).validate_json(json.dumps(points), strict=True)
    except ValidationError:
        return []


def add_point(folder: Path, point: ResumePoint) -> None:
    """Record a checkpoint that has been written whole, and drop what is no longer needed."""
    run = RunFolder(folder)
    point = replace(point, rows_sha=run.hash_rows(point.rows))
    if point.has_best:
        _link(run.best, point.best(run))
    others = [known for known in list_points(folder) if known.file != point.file]
    points = [point, *others][:KEPT]
    write_json(run.resume_file, {"points": [asdict(known) for known in points]})
    _remove_checkpoints(folder, {path for known in points for path in (known.checkpoint(run), known.best(run))})


def return_to(folder: Path, point: ResumePoint) -> None:
    """Make the run's best checkpoint the one of the resume point, whatever came later."""
    run = RunFolder(folder)
    if point.has_best:
        _link(point.best(run), run.best)
    else:
        run.best.unlink(missing_ok=True)


def forget_points(folder: Path) -> None:
    """Remove all resume points, which a finished run doesn't need."""
    RunFolder(folder).resume_file.unlink(missing_ok=True)
    _remove_checkpoints(folder, set())


def newest_intact(folder: Path) -> ResumePoint | None:
    """The newest point from which the run can be finished; None if there is none."""
    return next((point for point in list_points(folder) if not damage(folder, point)), None)


def damage(folder: Path, point: ResumePoint) -> str:
    """Why the run can't resume from a point, in words; empty if it can."""
    run = RunFolder(folder)
    if not is_whole(point.checkpoint(run)):
        return f"{point.file} is damaged or missing"
    if run.hash_rows(point.rows) != point.rows_sha:
        return "the rows logged before it are damaged or missing"
    if point.has_best and not is_whole(point.best(run)):
        return f"{point.best(run).name} is damaged or missing"
    return ""


def _link(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it if the file system can't; files are replaced and never changed."""
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except FileNotFoundError:
        return  # removed by hand; without it, the point isn't intact
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
    part.unlink(missing_ok=True)  # renaming one name of a file to another of the same file leaves both


def _remove_checkpoints(folder: Path, kept: set[Path]) -> None:
    for path in RunFolder(folder).checkpoints.glob("resume-*.ckpt"):
        if path not in kept:
            path.unlink(missing_ok=True)
