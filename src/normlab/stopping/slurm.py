"""SLURM's jobs and their states. Imports no torch."""

from __future__ import annotations

import os
import subprocess


def this_job() -> str | None:
    """The id of this process's job, such as 12, or 12_3 in an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:  # in an array, SLURM_JOB_ID can also be the array's id
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID") or None


def job_states(job: str) -> dict[str, str] | None:
    """The state of a SLURM job, or of each job of an array, by id, for those that SLURM still knows.

    None: SLURM doesn't answer.
    """
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", "--array", "--states=all", "--format=%i %T", "--jobs", job],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if asked.returncode != 0:
        return {} if "Invalid job id" in asked.stderr else None
    return dict(line.split() for line in asked.stdout.splitlines())
