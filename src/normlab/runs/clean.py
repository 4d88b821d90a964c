"""Removes runs that are of no further use. Imports no torch.

failed   ended without a result and without a save to resume from
stale    its code has changed since: a result, or an unfinished run that the current code can't resume
damaged  the files contradict each other, in place or set aside

Finished runs, their earlier attempts, running and resumable runs are never listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from normlab.folder.results import remove_folder
from normlab.folder.resume_points import newest_intact
from normlab.folder.run_folder import RunFolder, runs_folder
from normlab.runs.records import Record, is_aside, read_record, read_records, set_aside
from normlab.runs.store import all_claims

Kind = Literal["failed", "stale", "damaged"]


@dataclass(frozen=True)
class Leftover:
    """A folder that may be removed.

    why   the reason
    size  in bytes
    """

    folder: Path
    kind: Kind
    why: str
    size: int


def find_leftovers(output: Path) -> Iterator[Leftover]:
    """The folders below `output` that may be removed."""
    judged = [(record.folder, _judge(record)) for record in read_records(output)]
    judged += [(folder, _judge_aside(folder)) for folder in set_aside(output)]
    for folder, found in judged:
        if found is not None:
            yield Leftover(folder, *found, _size(folder))


def remove(output: Path, leftovers: Iterable[Leftover]) -> list[Leftover]:
    """Remove and return those whose state hasn't changed since they were found.

    No run can be claimed between this second check and the moment when its folder has been moved away.
    """
    removed = []
    for leftover in leftovers:
        going = leftover.folder.with_name(f".{leftover.folder.name}.removed")
        with all_claims(output):
            folder = leftover.folder
            found = _judge_aside(folder) if is_aside(folder) else _judge(read_record(folder))
            if found is None or found[0] != leftover.kind:
                continue
            leftover.folder.rename(going)
        removed.append(leftover)
        remove_folder(going)
    return removed


def sweep_out(output: Path) -> None:
    """Finish an interrupted removal."""
    for going in runs_folder(output).glob(".*.removed"):
        remove_folder(going)


def _judge_aside(folder: Path) -> tuple[Kind, str] | None:
    """Why an earlier attempt or a damaged folder may be removed; None: it stays."""
    if ".damaged-" in folder.name:
        return "damaged", "set aside"
    finished = RunFolder(folder).read_status().get("state") == "finished"
    return None if finished else ("stale", "an earlier attempt, unfinished")


def _judge(record: Record) -> tuple[Kind, str] | None:
    """Why a run may be removed; None: it stays."""
    state, cause = record.found.state, str(record.found.status.get("cause", ""))
    if state == "damaged":
        return "damaged", record.found.why
    if state == "stale":
        return "stale", "finished, code changed since"
    if state not in ("partial", "foreign"):
        return None
    ended = f"{record.state}: {cause}" if cause else record.state
    if newest_intact(record.folder) is None:
        torn = RunFolder(record.folder).resume_file.exists()  # it has saves
        return ("damaged", f"{ended}; all of its saves are damaged") if torn else ("failed", ended)
    return None if state == "partial" else ("stale", f"{ended}; the code has changed since, so it can't be resumed")


def _size(folder: Path) -> int:
    return sum((Path(place) / name).lstat().st_size for place, _, names in os.walk(folder) for name in names)
