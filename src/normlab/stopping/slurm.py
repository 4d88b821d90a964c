"""What SLURM says of its jobs. Imports no torch."""

from __future__ import annotations

import os
import subprocess


def this_job() -> str | None:
    """The number of the job that this process belongs to, such as 12, or 12_3 of an array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:  # the plain number of one of its jobs is the array's too
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID") or None


def job_states(job: str) -> dict[str, str] | None:
    """The state of a SLURM job, or of each job of an array, by number: only of those that SLURM still knows.

    None: SLURM can't be asked.
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
