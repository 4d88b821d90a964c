"""The folder of a run: what state it is in, who may write there, and how it begins and ends. Imports no torch.

outputs/runs/<id>/
    owner            while a process works on the run
    config.json      the whole config
    status.json      state (running, finished, failed, stopped), attempt, times, code, torch; the cause of a failure
    progress.json    while it trains: step and steps
    summary.json     the flat result
    provenance.json  what it was made with
    metrics.jsonl    every logged value
    links.json       where it is on W&B, once it is there
    resume.json      until it has finished: where it can go on
    checkpoints/     best.ckpt, last.ckpt; until it has finished resume-<step>.ckpt
What a new attempt replaces is kept as outputs/runs/<id>.attempt-<n>, a damaged folder as outputs/runs/<id>.damaged-<n>.
"""

from __future__ import annotations

import hashlib
import json
import shutil
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
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.place import Place
from normlab.folder.resume_points import forget_points, newest_intact
from normlab.runs.owner import is_alive, read_owner, this_process, write_owner

# missing   nothing there
# finished  a result of this code, or of code that was accepted
# stale     a result of other code
# partial   begun by this code and ended by a failure, a stop or a kill; it goes on from where it was saved
# foreign   begun by other code, or with another torch
# running   a living process works on it
# damaged   the folder contradicts itself
State = Literal["missing", "finished", "stale", "partial", "foreign", "running", "damaged"]


class BusyError(InputError):
    """Another process is working on the run, or has just finished it."""


@dataclass(frozen=True)
class Found:
    """What a run's folder holds.

    status   of `status.json`
    summary  the result of a finished or stale run
    why      what is damaged, or who is running it
    """

    state: State
    status: dict[str, Any]
    summary: dict[str, Any]
    why: str = ""


def folder_of(output: Path, run_id: str) -> Path:
    """Where a run's records lie."""
    return output / "runs" / run_id


def look(folder: Path, code: str) -> Found:
    """The state of a run for a process that runs the code with this hash."""
    status = read_json(folder / "status.json")
    if not status:
        return _without_status(folder)
    if status.get("state") not in ("running", "finished", "failed", "stopped"):
        return Found("damaged", status, {}, "status.json tells no state")
    if status["state"] == "finished":
        summary, problem = read_summary(folder, status)
        if problem:
            return Found("damaged", status, {}, problem)
        known = status.get("code") == code or code in status.get("accepted", [])
        return Found("finished" if known else "stale", status, summary)
    owner = read_owner(folder)
    if owner is not None and is_alive(owner):
        return Found("running", status, {}, str(owner))
    same = status.get("code") == code and status.get("torch") == _torch()
    return Found("partial" if same else "foreign", status, {})


def _without_status(folder: Path) -> Found:
    if (folder / "status.json").exists():
        return Found("damaged", {}, {}, "status.json can't be read")
    if not folder.exists():
        return Found("missing", {}, {})
    owner = read_owner(folder)
    if owner is not None and is_alive(owner):
        return Found("running", {}, {}, str(owner))
    if (folder / "summary.json").exists():
        return Found("damaged", {}, {}, "status.json is missing")
    return Found("foreign", {}, {})  # its process died while it made the folder


def read_summary(folder: Path, status: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The result of a finished run, and what is wrong with it, if anything."""
    try:
        content = (folder / "summary.json").read_bytes()
    except FileNotFoundError:
        return {}, "summary.json is missing"
    except OSError as error:
        return {}, f"summary.json can't be read: {error.strerror}"
    if hashlib.sha256(content).hexdigest() != status.get("summary"):
        return {}, "summary.json is not what the run wrote"
    summary: dict[str, Any] = json.loads(content)
    return summary, ""


@dataclass(frozen=True)
class Run:
    """A run that this process owns, from `claim` to `finish`, `fail` or `withdraw`."""

    place: Place
    code: str
    started: str
    replaced: Path | None = None  # the earlier attempt, set aside

    def finish(self, summary: dict[str, Any]) -> None:
        """Record the result and let go."""
        path = self.place.folder / "summary.json"
        write_json(path, summary)
        self._status("finished", summary=hashlib.sha256(path.read_bytes()).hexdigest())
        _clear(self.place.folder)

    def fail(self, state: str, cause: str) -> None:
        """Record a failed or stopped run and let go, also where the disk takes nothing more."""
        with suppress(OSError):
            self._status(state, cause=cause)
        self._release()

    def withdraw(self) -> None:
        """The input could not work: leave things as they were."""
        shutil.rmtree(self.place.folder)
        if self.replaced is not None:
            self.replaced.rename(self.place.folder)

    def _status(self, state: str, **more: str) -> None:
        status = {
            "state": state,
            "attempt": self.place.attempt,
            "code": self.code,
            "torch": _torch(),
            "started": self.started,
        }
        if state != "running":
            status["ended"] = _now()
        write_json(self.place.folder / "status.json", {**status, **more})

    def _release(self) -> None:
        with suppress(OSError):
            (self.place.folder / "owner").unlink(missing_ok=True)


def claim(output: Path, run_id: str, code: str, config: dict[str, Any], *, repeat: bool = False) -> tuple[Run, str]:
    """Take a run for this process: new, resumed, or in place of what lies there, which is kept.

    Args:
        repeat: begin anew although the run has finished.

    Returns:
        The run, and a sentence for the user where something other than a new run begins.

    Raises:
        BusyError: another process is working on the run, or has finished it meanwhile.
    """
    folder = folder_of(output, run_id)
    with all_claims(output):
        found = look(folder, code)
        if found.state == "running":
            owner = read_owner(folder)
            gone = f"; if it is gone, remove {folder / 'owner'}" if owner and owner.host != this_process().host else ""
            raise BusyError(f"{found.why} is working on {folder}: wait for it{gone}")
        if found.state == "finished" and not repeat:  # another process has just finished it
            raise BusyError(f"{folder} has finished meanwhile: give the command again to see it")
        point = newest_intact(folder) if found.state == "partial" else None
        if found.state == "partial" and point is None and (folder / "resume.json").exists():
            found = replace(found, state="damaged", why="nothing that it saved is whole")
        attempt = int(found.status.get("attempt", 0))
        replaced, note = None, ""
        if point is not None:
            note = f"resumed after step {point.step}"
            _remove_parts(folder)
        elif found.state == "damaged":
            replaced = _set_aside(folder, "damaged", 1)
            note = f"{folder}: {found.why}; set aside as {replaced.name} and done again"
        elif found.state in ("stale", "finished") or (found.state == "foreign" and newest_intact(folder)):
            replaced = _set_aside(folder, "attempt", attempt)
            note = f"the earlier one, {_WHY[found.state]}, is kept as {replaced.name}"
        elif folder.exists():  # nothing there to go on from
            shutil.rmtree(folder)
        if point is None:
            attempt += 1
        folder.mkdir(parents=True, exist_ok=True)
        write_owner(folder, this_process(point.file if point else None))
    run = Run(Place(folder, run_id, attempt, point), code, _now(), replaced)
    write_json(folder / "config.json", config)
    run._status("running")
    return run, note


_WHY = {
    "stale": "made by other code",
    "foreign": "begun by other code or torch",
    "finished": "repeated now",
}


def accept(folder: Path, status: dict[str, Any], code: str) -> None:
    """Record that a result of other code counts as one of the code with this hash."""
    write_json(folder / "status.json", {**status, "accepted": [*status.get("accepted", []), code]})


def tidy(folder: Path) -> None:
    """Take away what a process that died while it finished a run has left there, if any has."""
    if not (folder / "owner").exists():
        return
    with suppress(OSError), all_claims(folder.parents[1]):
        owner, finished = read_owner(folder), read_json(folder / "status.json").get("state") == "finished"
        if finished and (owner is None or not is_alive(owner)):
            _clear(folder)


def _clear(folder: Path) -> None:
    """Of a finished run, remove what only an unfinished one needs; the owner last, which says that there is more.

    What can't be removed does no harm, and the run has finished all the same.
    """
    with suppress(OSError):
        forget_points(folder)
        (folder / "progress.json").unlink(missing_ok=True)
        (folder / "owner").unlink(missing_ok=True)


def _remove_parts(folder: Path) -> None:
    """Remove what a process was writing when it was killed."""
    for part in folder.rglob(".*.part"):
        part.unlink(missing_ok=True)


@contextmanager
def all_claims(output: Path) -> Iterator[None]:
    """One process at a time looks and takes; the operating system lets go of the lock of one that dies."""
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
