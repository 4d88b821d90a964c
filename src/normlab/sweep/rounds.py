"""Launches runs until each has ended: again after a worker was killed, or if another command abandons a run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from normlab.command_line.arguments import quoted
from normlab.runs.store import look
from normlab.sweep.paused import has_paused
from normlab.sweep.plan import Job, Outcome, freeze, outcome_file, read_outcome

Launch = Callable[..., Any]  # (overrides of each job, initial_job_idx=number of the first)
KILLED, NOT_BEGUN = "its process was killed", "it was not started"
PATIENCE = 600.0  # seconds without a write after which we stop waiting for another command's run
PAUSE = 1.0  # seconds between two checks of it


@dataclass(frozen=True)
class Rounds:
    """Launches jobs of an invocation.

    launch      Hydra's launcher
    invocation  folder of the frozen plans
    size        how many jobs to give to the launcher at once; None: all
    pooled      the launcher's workers end together: joblib kills the others when the system kills one
    """

    console: Console
    launch: Launch
    invocation: Path
    size: int | None
    pooled: bool

    def all_of(self, todo: Sequence[Job], on_error: str) -> dict[int, Outcome]:
        """Launch each job, retry failed ones as often as configured, and wait for runs of other commands."""
        outcomes: dict[int, Outcome] = {}
        left = list(todo)
        for _ in range(int(on_error.partition(":")[2] or 0) + 1):
            outcomes |= self._round(left)
            if self.pooled and on_error != "stop":
                outcomes |= self._rest(left, outcomes)
            left = [job for job in left if outcomes[job.number].state == "failed"]
            if not left:
                break
        self._await_others(todo, outcomes)
        return outcomes

    def read(self, jobs: Sequence[Job]) -> dict[int, Outcome]:
        """How each job has ended so far."""
        return {job.number: self._outcome(job) for job in jobs}

    def _round(self, jobs: Sequence[Job]) -> dict[int, Outcome]:
        """Launch each job once."""
        files = {job.number: freeze(job, self.invocation) for job in jobs}
        for file in files.values():
            outcome_file(file).unlink(missing_ok=True)
        troubles: list[str] = []
        for first in range(0, len(jobs), self.size or len(jobs)):
            batch = jobs[first : first + (self.size or len(jobs))]
            overrides = [[*job.overrides, f"plan={quoted(str(files[job.number]))}"] for job in batch]
            try:
                self.launch(overrides, initial_job_idx=first)
            except (
                Exception
            ) as error:  # an error of the launcher: a worker was killed, or a config file has become invalid
                troubles.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
        return {job.number: self._outcome(job, troubles) for job in jobs}

    def _rest(self, jobs: Sequence[Job], outcomes: dict[int, Outcome]) -> dict[int, Outcome]:
        """After a worker was killed, launch the jobs that had not started together, then the others one at a time.

        Memory may have been short because of all of them, and joblib has killed them all: which run is the cause shows
        only when it runs alone. If its process is killed then, it has failed.
        """
        after = dict(outcomes)
        while waiting := [job for job in jobs if after[job.number].cause.startswith(NOT_BEGUN)]:
            self._announce(waiting, "launched again")
            after |= self._round(waiting)
            if all(after[job.number].cause.startswith(NOT_BEGUN) for job in waiting):
                break  # the trouble doesn't come from a run
        struck = [job for job in jobs if after[job.number].cause.startswith(KILLED)]
        if struck:
            self._announce(struck, "resumed one at a time")
        for job in struck:
            after |= self._round([job])
        return after

    def _announce(self, jobs: Sequence[Job], what: str) -> None:
        told = f"the launcher gave up: {_counted(jobs)} {what}"
        self.console.print(told, highlight=False, soft_wrap=True)

    def _await_others(self, jobs: Sequence[Job], outcomes: dict[int, Outcome]) -> None:
        """Wait for runs of other commands as long as they write; do the abandoned ones."""
        written: dict[Path, float] = {}
        told, moved = False, time.monotonic()
        while elsewhere := [job for job in jobs if outcomes[job.number].state == "elsewhere"]:
            if not told:
                self.console.print(
                    f"waiting for {_counted(elsewhere)} that another command is working on", highlight=False
                )
                told = True
            states = {job.number: look(job.folder, job.code) for job in elsewhere}
            for job in elsewhere:
                if states[job.number].state == "finished":
                    diverged = states[job.number].summary.get("diverged")
                    outcomes[job.number] = Outcome("diverged" if diverged else "skipped", "another command finished it")
                elif states[job.number].state == "paused" and has_paused(job):
                    outcomes[job.number] = Outcome("paused", "another command has come so far")
            gone = [job for job in elsewhere if states[job.number].state not in ("finished", "running")]
            free = [job for job in gone if outcomes[job.number].state == "elsewhere"]
            if free:
                outcomes |= self._round(free)
            now = {job.folder: _last_written(job.folder) for job in elsewhere}
            if now != written:
                written, moved = now, time.monotonic()
            elif time.monotonic() - moved > PATIENCE:
                return
            time.sleep(PAUSE)

    def _outcome(self, job: Job, troubles: Sequence[str] = ()) -> Outcome:
        """How a job ended; if its process died before recording it, from the run's folder."""
        outcome = read_outcome(self.invocation / "jobs" / f"{job.number:04}.json")
        if outcome is not None:
            return outcome
        found = look(job.folder, job.code)
        if found.state == "finished":
            return Outcome("diverged" if found.summary.get("diverged") else "finished")
        if found.state == "running":
            return Outcome("elsewhere", f"{found.why} is working on it")
        reason = f" ({troubles[0]})" if troubles else ""
        if found.state == "paused" and has_paused(job):
            return Outcome("paused", str(found.status.get("cause", "")))
        if found.state in ("partial", "foreign") and found.status.get("state") == "running":
            return Outcome("failed", f"{KILLED}{reason}")
        if found.state in ("partial", "foreign") and found.status.get("state") == "stopped":
            return Outcome("stopped", f"{found.status['cause']}{reason}")
        return Outcome("failed" if troubles else "not started", f"{NOT_BEGUN}{reason}")


def _counted(jobs: Sequence[Job]) -> str:
    return f"{len(jobs)} run{'s' if len(jobs) != 1 else ''}"


def _last_written(folder: Path) -> float:
    """When a file of the folder last changed, in seconds since 1970."""
    try:
        return max((file.stat().st_mtime for file in folder.iterdir()), default=0.0)
    except OSError:  # a file was removed, which is a change too
        return time.time()
