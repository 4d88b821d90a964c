"""The folder of a run: who may write there, and how records are written whole. Imports no torch.

outputs/runs/<id>/
    owner            while a process works on the run: its host and process id
    config.json      the whole config
    status.json      state (running, finished, failed, stopped), attempt, times, code; the cause of a failure
    summary.json     the flat result
    provenance.json  what it was made with
    metrics.jsonl    every logged value
    checkpoints/     best.ckpt, last.ckpt
An earlier attempt that a repeated run replaces is kept as outputs/runs/<id>.attempt-<n>.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from normlab.measures.place import Place
from normlab.schema import InputError


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write `values` so that a reader sees the old file or the new one, never a part."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(values, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """The values in a JSON file; empty if there is none or it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


@dataclass(frozen=True)
class Run:
    """A run that this process owns, from `claim` to `finish`, `fail` or `withdraw`."""

    place: Place
    code: str
    started: str
    replaced: Path | None = None  # the earlier attempt, set aside

    def finish(self, summary: dict[str, Any]) -> None:
        """Record the result and let go."""
        write_json(self.place.folder / "summary.json", summary)
        self._status("finished")
        self._release()

    def fail(self, state: str, cause: str) -> None:
        """Record a failed or stopped run and let go."""
        self._status(state, cause=cause)
        self._release()

    def withdraw(self) -> None:
        """The input could not work: leave things as they were."""
        shutil.rmtree(self.place.folder)
        if self.replaced is not None:
            self.replaced.rename(self.place.folder)

    def _status(self, state: str, **more: str) -> None:
        status = {"state": state, "attempt": self.place.attempt, "code": self.code, "started": self.started}
        if state != "running":
            status["ended"] = _now()
        write_json(self.place.folder / "status.json", {**status, **more})

    def _release(self) -> None:
        (self.place.folder / "owner").unlink(missing_ok=True)


def finished(output: Path, run_id: str, code: str) -> dict[str, Any] | None:
    """The summary of a finished run that the same code made; None if there is none."""
    folder = folder_of(output, run_id)
    status = read_json(folder / "status.json")
    if status.get("state") != "finished" or status.get("code") != code:
        return None
    return read_json(folder / "summary.json") or None


def folder_of(output: Path, run_id: str) -> Path:
    """Where a run's records lie."""
    return output / "runs" / run_id


def claim(output: Path, run_id: str, code: str, config: dict[str, Any]) -> Run:
    """Take a run for this process. What lies there from before is kept as an earlier attempt.

    Raises:
        InputError: another process is working on the run.
    """
    folder = folder_of(output, run_id)
    owner = folder / "owner"
    if owner.exists() and _alive(owner):
        raise InputError(f"another process ({owner.read_text().strip()}) is working on {folder}: wait for it")
    attempt = int(read_json(folder / "status.json").get("attempt", 0)) + 1
    replaced = _set_aside(folder, attempt - 1) if folder.exists() else None
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise InputError(f"another process has just begun to work on {folder}: wait for it") from None
    with owner.open("x", encoding="utf-8") as file:
        file.write(f"{socket.gethostname()} {os.getpid()}\n")
    run = Run(Place(folder, run_id, attempt), code, _now(), replaced)
    write_json(folder / "config.json", config)
    run._status("running")
    return run


def _set_aside(folder: Path, attempt: int) -> Path:
    number = attempt
    while (kept := folder.with_name(f"{folder.name}.attempt-{number}")).exists():
        number += 1
    return folder.rename(kept)


def _alive(owner: Path) -> bool:
    """Does the process still run? One on another host is taken to."""
    try:
        host, pid = owner.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return False
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
