"""The folder of a run: the only place that knows the names and formats of its files. Imports no torch.

<output>/runs/<id>/
    owner            while a process works on the run: which one; it holds a lock on the file
    config.json      the whole config
    status.json      state (running, finished, failed, stopped), attempt, times, code, torch, files' SHA-256, cause
    progress.json    while it trains: step and steps
    summary.json     the flat result
    provenance.json  what it was made with
    example_scores.json  of a tested run, see `example_scores`
    metrics.jsonl    every logged value: {"step": 50, "time": 1.7e9, "train/loss": 0.7, …} a line, time in s since 1970
    links.json       its address on W&B, once it is there
    resume.json      until it has finished: its resume points, see `resume_points`
    checkpoints/     best.ckpt, last.ckpt; until it has finished resume-<step>.ckpt
    wandb/           what W&B's client writes

Files are replaced atomically, so that a reader sees the old or the new content. Missing or damaged files read as empty,
unless a method says otherwise.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from normlab.folder.files import hash_file, read_regular
from normlab.folder.hold import Hold
from normlab.folder.jsonfile import parse_json, read_json, write_json
from normlab.folder.typed import Progress, Status, parse_config, typed


class Rows(NamedTuple):
    """The logged rows of a run.

    rows     in order, without those that can't be read
    problem  the first row that can't be read, in words; empty if there is none
    """

    rows: list[dict[str, Any]]
    problem: str = ""


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, which need not exist."""

    folder: Path

    @classmethod
    def at(cls, output: Path, run_id: str) -> RunFolder:
        """The folder of a run below the folder of all results."""
        return cls(runs_folder(output) / run_id)

    @property
    def output(self) -> Path:
        """The folder of all results."""
        return self.folder.parent.parent

    # its config

    @property
    def config_file(self) -> Path:
        """The whole config, as JSON."""
        return self.folder / "config.json"

    def read_config(self) -> dict[str, Any]:
        """The config, after a check of the entries that all versions have in common."""
        return parse_config(self.config_content())

    def config_content(self) -> bytes:
        """The content of the config file."""
        try:
            return read_regular(self.config_file)
        except OSError:
            return b""

    def write_config(self, values: dict[str, Any]) -> str:
        """Record the whole config; returns its SHA-256, for the status."""
        write_json(self.config_file, values)
        return hash_file(self.config_file)

    # how far it has come

    @property
    def _status(self) -> Path:
        return self.folder / "status.json"

    def read_status(self) -> dict[str, Any]:
        """State, attempt, times, code, torch; the cause of a failure."""
        return typed(read_json(self._status), Status)

    def has_status(self) -> bool:
        """Is there a status file, readable or not?"""
        return self._status.exists()

    def write_status(self, values: dict[str, Any]) -> None:
        """Replace the status."""
        write_json(self._status, values)

    @property
    def _progress(self) -> Path:
        return self.folder / "progress.json"

    def read_progress(self) -> dict[str, Any]:
        """`step` and `steps` of a running training."""
        return typed(read_json(self._progress), Progress)

    def write_progress(self, step: int, steps: int) -> None:
        """Record the progress of the training; call it at most once a second."""
        write_json(self._progress, {"step": step, "steps": steps}, durable=False)

    def forget_progress(self) -> None:
        """Remove the progress of a run that has ended."""
        self._progress.unlink(missing_ok=True)

    # who works on it

    @property
    def owner_file(self) -> Path:
        """Exists while a process works on the run."""
        return self.folder / "owner"

    def read_owner(self) -> dict[str, Any]:
        """The process that works on the run, as `runs.owner` writes it."""
        return read_json(self.owner_file)

    def hold_owner(self, values: dict[str, Any]) -> Hold:
        """Record this process as the one that works on the run, and lock the record."""
        return Hold(self.owner_file, values)

    def forget_owner(self) -> None:
        """Remove the record: no process works on the run any more."""
        self.owner_file.unlink(missing_ok=True)

    # its result

    @property
    def _summary(self) -> Path:
        return self.folder / "summary.json"

    def read_summary(self) -> dict[str, Any]:
        """The flat result, if it matches what the run wrote."""
        return self.checked_summary(self.read_status().get("summary"))[0]

    def has_summary(self) -> bool:
        """Is there a summary file, readable or not?"""
        return self._summary.exists()

    def write_summary(self, values: dict[str, Any]) -> str:
        """Record the result; returns its SHA-256, for the status."""
        write_json(self._summary, values)
        return hash_file(self._summary)

    def checked_summary(self, digest: object) -> tuple[dict[str, Any], str]:
        """The result, checked against its SHA-256 in the status, and what is wrong with it, if anything."""
        name = self._summary.name
        try:
            content = read_regular(self._summary)
        except FileNotFoundError:
            return {}, f"{name} is missing"
        except OSError as error:
            return {}, f"{name} can't be read: {error.strerror}"
        if hashlib.sha256(content).hexdigest() != digest:
            return {}, f"{name} differs from what the run wrote"
        try:
            return parse_json(content), ""
        except ValueError as error:
            return {}, f"{name} can't be read: {error}"

    def changed(self, status: dict[str, Any]) -> str:
        """Which other file of a finished run is not what the status has the SHA-256 of, if it has; empty if none."""
        for name, path in (("config", self.config_file), ("example_scores", self.example_scores_file)):
            if name in status and hash_file(path) != status[name]:
                return f"{path.name} is not what the run wrote"
        if "rows" in status and self.hash_rows() != status["rows"]:
            return f"{self._metrics.name} is not what the run wrote"
        return ""

    @property
    def provenance_file(self) -> Path:
        """What the run was made with, as JSON."""
        return self.folder / "provenance.json"

    def read_provenance(self) -> dict[str, Any]:
        """What the run was made with, as `runs.provenance` writes it."""
        return read_json(self.provenance_file)

    def write_provenance(self, values: dict[str, Any]) -> None:
        """Record what the run was made with."""
        write_json(self.provenance_file, values)

    @property
    def example_scores_file(self) -> Path:
        """Of a tested run: its score on each example of the test split."""
        return self.folder / "example_scores.json"

    # every logged value

    @property
    def _metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    def has_rows(self) -> bool:
        """Has anything been logged?"""
        return self._metrics.exists()

    def read_rows(self) -> Rows:
        """Every logged row."""
        rows, problem = [], ""
        for number, line in enumerate(self._lines(), 1):
            try:
                rows.append(parse_json(line))
            except ValueError:
                problem = problem or f"{self._metrics}, line {number} is damaged"
        return Rows(rows, problem)

    def append_row(self, row: dict[str, Any]) -> None:
        """Log one row."""
        with self._metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def keep_rows(self, count: int) -> None:
        """Drop all rows after the first `count`: a resumed run repeats those that were logged later."""
        if self._metrics.is_symlink():  # the target of a link is not a file of the run
            self._metrics.unlink()
        if self._metrics.exists():
            with self._metrics.open("rb+") as file:
                for _ in range(count):
                    file.readline()
                file.truncate()

    def hash_rows(self, count: int | None = None) -> str:
        """SHA-256 of the first `count` rows as logged; None: of all rows."""
        return hashlib.sha256(b"".join(self._lines()[:count])).hexdigest()

    def _lines(self) -> list[bytes]:
        try:
            return [] if self._metrics.is_symlink() else read_regular(self._metrics).splitlines(keepends=True)
        except OSError:
            return []

    # checkpoints

    @property
    def checkpoints(self) -> Path:
        """Folder of all checkpoints."""
        return self.folder / "checkpoints"

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation."""
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint at the end of training."""
        return self.checkpoints / "last.ckpt"

    @property
    def resume_file(self) -> Path:
        """The list of resume points."""
        return self.folder / "resume.json"

    # where else it can be seen

    @property
    def wandb(self) -> Path:
        """What W&B's client writes."""
        return self.folder / "wandb"

    @property
    def _links(self) -> Path:
        return self.folder / "links.json"

    def read_address(self) -> str:
        """The run's address on W&B; `offline` if it waits for its upload; empty if it was not logged there."""
        address = str(read_json(self._links).get("wandb", ""))
        if address.startswith(("https://", "http://")):
            return address
        fragments = self.wandb.glob("offline-run-*/*.wandb")
        return "offline" if any(not file.with_suffix(".wandb.synced").exists() for file in fragments) else ""

    def write_address(self, url: str) -> None:
        """Record the run's address on W&B."""
        write_json(self._links, {"wandb": url}, durable=False)

    # parts left by killed processes

    def remove_parts(self) -> None:
        """Remove what a process was writing when it was killed."""
        for part in self.folder.rglob(".*.part"):
            part.unlink(missing_ok=True)


def runs_folder(output: Path) -> Path:
    """The folder of all runs below the folder of all results."""
    return output / "runs"
