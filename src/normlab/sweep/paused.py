"""How far a run has come, and what its validations say there: whether a tuning run goes on is decided by that."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from normlab.config.measures.training import least_steps
from normlab.folder.run_folder import RunFolder
from normlab.runs.store import look
from normlab.runs.validated import Row, result_of, validations_until
from normlab.sweep.estimate import steps_of
from normlab.sweep.plan import Job


def has_paused(job: Job) -> bool:
    """Has a run that has paused come as far as this job would take it?"""
    return job.pause is not None and bool(reached(job, job.pause))


def at_pause(job: Job, share: float | None, columns: Iterable[str]) -> dict[str, Any]:
    """The columns of a run at its pause, also if it had gone on before; empty if it doesn't pause."""
    validations = reached(job, share) if share is not None else []
    if not validations:
        return {}
    values = {column: result_of(validations, column) for column in columns}
    return {**values, "steps": validations[-1]["step"], "outcome": "paused"}


def standing(jobs: Iterable[Job], share: float, column: str, worst: float) -> float | None:
    """What the runs of a point have reached at a share of their steps, in the mean; None if they don't say.

    Args:
        worst: what a run has reached that diverged before.
    """
    values = []
    for job in jobs:
        validations = reached(job, share)
        diverged = not validations and RunFolder(job.folder).read_summary().get("diverged")
        values.append(worst if diverged else result_of(validations, column))
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def reached(job: Job, share: float) -> list[Row]:
    """The validations of a run up to the one at which it pauses, or would have if it was asked to.

    A run that had finished before is judged by the same validations. Empty if it has not come so far.
    """
    run = RunFolder(job.folder)
    if look(job.folder, job.code).state not in ("finished", "stale", "paused"):
        return []
    return validations_until(run.read_rows().rows, least_steps(share, _steps(job)))


def _steps(job: Job) -> int:
    """Of the whole run: as recorded if it had all of them, as otherwise the data must be read."""
    run, options = RunFolder(job.folder), job.config.trainer
    status, summary = run.read_status(), run.read_summary()
    if status.get("state") == "paused" and status.get("steps"):
        return int(status["steps"])
    ended_early = summary.get("diverged") or options.patience is not None or options.minutes is not None
    return int(summary.get("steps") or 0) if not ended_early and summary.get("steps") else steps_of(job.config)
