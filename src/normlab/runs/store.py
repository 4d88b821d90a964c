"""The state of a run, its claim by one process, and its beginning and end. Imports no torch.

A run replaced by a new attempt is kept as outputs/runs/<id>.attempt-<n>, a damaged folder as
outputs/runs/<id>.damaged-<n>.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from normlab.config.schema import InputError
from normlab.folder.files import hash_file
from normlab.folder.hold import Hold
from normlab.folder.place import Place
from normlab.folder.results import remove_folder
from normlab.folder.resume_points import ResumePoint, damage, forget_points, list_points, newest_intact, return_to
from normlab.folder.run_folder import RunFolder
from normlab.runs.owner import at_work, is_certain, read_owner, take, this_process

# missing   there is no such run
# finished  a result of the current code, or of accepted code
# stale     a result of code that has changed since
# paused    stopped where a study had it stop, with current or accepted code; it can resume
# partial   started with the current code and failed, stopped or killed; it can resume from its last save
# foreign   started with code that has changed since, or with another torch
# running   a living process works on it
# damaged   its files contradict each other
State = Literal["missing", "finished", "stale", "paused", "partial", "foreign", "running", "damaged"]


class BusyError(InputError):
    """Another process is working on the run, or has just finished it."""


@dataclass(frozen=True)
class Found:
    """The state of a run's folder.

    status   as recorded
    summary  the result of a finished or stale run
    why      what is damaged, or who is running it
    """

    state: State
    status: dict[str, Any]
    summary: dict[str, Any]
    why: str = ""


def folder_of(output: Path, run_id: str) -> Path:
    """The folder of a run."""
    return RunFolder.at(output, run_id).folder


def look(folder: Path, code: str) -> Found:
    """The state of a run, for a process with this code hash."""
    run = RunFolder(folder)
    status = run.read_status()
    if status.get("state") != "finished" and (process := at_work(folder)):
        return Found("running", status, {}, process)
    if not status:
        return _without_status(folder)
    if status.get("state") not in ("running", "finished", "failed", "stopped", "paused"):
        return Found("damaged", status, {}, "status.json has no state")
    known = status.get("code") == code or code in status.get("accepted", [])
    if status["state"] == "finished":
        summary, problem = run.checked_summary(status.get("summary"))
        if problem := problem or run.changed(status):
            return Found("damaged", status, {}, problem)
        return Found("finished" if known else "stale", status, summary)
    if status["state"] == "paused" and known and not run.changed(status):
        return Found("paused", status, {})
    return Found("partial" if _same(status, code) else "foreign", status, {})


def _same(status: dict[str, Any], code: str) -> bool:
    """Was an unfinished run started with the present code and torch, so that it can resume?"""
    return bool(status.get("code") == code and status.get("torch") == _torch())


def _without_status(folder: Path) -> Found:
    if RunFolder(folder).has_status():
        return Found("damaged", {}, {}, "status.json can't be read")
    if not folder.exists():
        return Found("missing", {}, {})
    if RunFolder(folder).has_summary():
        return Found("damaged", {}, {}, "status.json is missing")
    return Found("foreign", {}, {})  # its process died while creating the folder


@dataclass(frozen=True)
class Run:
    """A run owned by this process, from `claim` to `finish`, `fail` or `withdraw`."""

    place: Place
    code: str
    started: str
    config: str  # SHA-256 of config.json
    hold: Hold  # the locked record of this process as owner
    replaced: Path | None = None  # the earlier attempt, set aside
    spent: float = 0.0  # seconds until it paused

    def finish(self, summary: dict[str, Any]) -> None:
        """Record the result and release the run."""
        scores = self.place.example_scores_file
        kept = {"example_scores": hash_file(scores)} if scores.exists() else {}
        self._status("finished", summary=self.place.write_summary(summary), rows=self.place.hash_rows(), **kept)
        _clear(self.place)
        self.hold.let_go()

    def pause(self, cause: str, *, step: int, steps: int, seconds: float) -> None:
        """Record that the run has come as far as it was launched for, and release it.

        Args:
            steps: of the whole run.
            seconds: of the process, those before an earlier pause included.
        """
        self._status("paused", cause=cause, rows=self.place.hash_rows(), step=step, steps=steps, seconds=seconds)
        self._release()

    def fail(self, state: str, cause: str) -> None:
        """Record a failed or stopped run and release it, even if the disk is full."""
        with suppress(OSError):
            self._status(state, cause=cause)
        self._release()

    def withdraw(self) -> None:
        """Restore the folder after bad input."""
        remove_folder(self.place.folder)
        if self.replaced is not None:
            self.replaced.rename(self.place.folder)
        self.hold.let_go()

    def _status(self, state: str, **more: str | float) -> None:
        status = {
            "state": state,
            "attempt": self.place.attempt,
            "code": self.code,
            "torch": _torch(),
            "started": self.started,
            "config": self.config,
        }
        if state != "running":
            status["ended"] = _now()
        self.place.write_status({**status, **more})

    def _release(self) -> None:
        with suppress(OSError):
            self.place.forget_owner()
        self.hold.let_go()


def claim(output: Path, run_id: str, code: str, config: dict[str, Any], *, repeat: bool = False) -> tuple[Run, str]:
    """Claim a run for this process: a new one, a resumed one, or one that replaces another, which is kept.

    Args:
        repeat: start again although the run has finished.

    Returns:
        The run, and a sentence for the user unless it is simply new.

    Raises:
        BusyError: another process is working on the run, or has finished it meanwhile.
    """
    folder = folder_of(output, run_id)
    if folder.is_file() or (folder.is_symlink() and not folder.exists()):
        raise InputError(f"{folder} is not a folder, or is a broken link: remove it or fix the link")
    with all_claims(output):
        found = look(folder, code)
        if found.state == "running":
            owner, file = read_owner(folder), RunFolder(folder).owner_file
            gone = f"; if it no longer exists, remove {file}" if owner and not is_certain(owner) else ""
            raise BusyError(f"{found.why} is working on {folder}: wait for it{gone}")
        if found.state == "finished" and not repeat:  # another process has just finished it
            raise BusyError(f"{folder} has finished in the meantime: repeat the command to see the result")
        if found.state == "paused" and not _same(found.status, code):
            found = replace(found, state="foreign")
        point = newest_intact(folder) if found.state in ("partial", "paused") else None
        if found.state == "partial" and point is None and RunFolder(folder).resume_file.exists():
            found = replace(found, state="damaged", why="all of its saves are damaged")
        attempt = int(found.status.get("attempt", 0))
        replaced, note = None, ""
        if point is not None:
            note = f"resumed after step {point.step}{_passed_over(folder, point)}"
            RunFolder(folder).remove_parts()
            return_to(folder, point)
        elif found.state == "damaged":
            replaced = _set_aside(folder, "damaged", 1)
            note = f"{folder}: {found.why}; it was set aside as {replaced.name} and the run is repeated"
        elif found.state in ("stale", "finished") or (found.state == "foreign" and newest_intact(folder)):
            replaced = _set_aside(folder, "attempt", attempt)
            note = f"the earlier run ({_WHY[found.state]}) is kept as {replaced.name}"
        elif folder.exists():  # nothing to resume from
            remove_folder(folder)
        if point is None:
            attempt += 1
        folder.mkdir(parents=True, exist_ok=True)
        hold = take(folder, this_process(point.file if point else None))
    place = Place(folder, run_id, attempt, point)
    run = Run(
        place=place,
        code=code,
        started=_now(),
        config=place.write_config(config),
        hold=hold,
        replaced=replaced,
        spent=float(found.status.get("seconds") or 0.0) if point is not None else 0.0,
    )
    run._status("running")
    return run, note if hold.locked else "; ".join(filter(None, (note, _NO_LOCKS.format(output))))


def _passed_over(folder: Path, point: ResumePoint) -> str:
    """The newer resume points that can't be used."""
    newer = [known for known in list_points(folder) if known.step > point.step]
    return "".join(f"; the later save at step {known.step} can't be used: {damage(folder, known)}" for known in newer)


_NO_LOCKS = "{} is on a file system without locks: don't give one command in two containers or on two machines"
_WHY = {
    "stale": "its code has changed since",
    "foreign": "its code or torch version has changed since it started",
    "finished": "now repeated",
}


def accept(folder: Path, status: dict[str, Any], code: str) -> None:
    """Record that a result of older code is accepted for the code with this hash."""
    RunFolder(folder).write_status({**status, "accepted": [*status.get("accepted", []), code]})


def put_in_place(made: Path, folder: Path) -> Path | None:
    """Move the folder of a finished run, made elsewhere, to where it belongs.

    The caller holds the lock of all claims, and has looked: what is there has no result.

    Returns:
        Where an unfinished or damaged run that was there is kept.
    """
    kept = None
    if folder.exists():
        kept = _set_aside(folder, "attempt", int(RunFolder(folder).read_status().get("attempt", 1)))
    made.rename(folder)
    return kept


def tidy(folder: Path) -> None:
    """Remove files left by a process that died while finishing a run."""
    run = RunFolder(folder)
    if not run.owner_file.exists():
        return
    with suppress(OSError), all_claims(folder.parents[1]):
        if run.read_status().get("state") == "finished" and not at_work(folder):
            _clear(run)


def _clear(run: RunFolder) -> None:
    """Remove the files that a finished run doesn't need; the owner file last, because it shows that others remain.

    Files that can't be removed do no harm.
    """
    with suppress(OSError):
        forget_points(run.folder)
        run.forget_progress()
        run.forget_owner()


@contextmanager
def all_claims(output: Path) -> Iterator[None]:
    """Let one process at a time check and claim; the operating system releases the lock of a process that dies."""
    output.mkdir(parents=True, exist_ok=True)
    with FileLock(output / ".claims.lock", timeout=60):
        yield


def _set_aside(folder: Path, why: str, number: int) -> Path:
    while (kept := folder.with_name(f"{folder.name}.{why}-{number}")).exists():
        number += 1
    return folder.rename(kept)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _torch() -> str:
    return version("torch")
