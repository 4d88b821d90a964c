"""Other processes that compute on this machine, and what a run does about them. Imports no torch."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

STAT = Path("/proc/stat")
LOOKS, PAUSE = 5, 0.02  # the median of so many looks, so many seconds apart


def others_computing(stat: Path = STAT) -> int:
    """How many other processes and threads compute on this machine now, this process's left out; 0 if unknown."""
    try:
        counts = sorted(_running(stat, PAUSE) for _ in range(LOOKS))
    except (OSError, ValueError):
        return 0
    return max(0, counts[LOOKS // 2] - 1)


def _running(stat: Path, pause: float) -> int:
    time.sleep(pause)
    found = re.search(r"^procs_running (\d+)$", stat.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise ValueError("not Linux's /proc/stat")
    return int(found[1])


def sleep_while_waiting(threads: int, others: int, cores: int) -> str:
    """If others leave too few cores for `threads`, let threads that wait for each other sleep, and say so.

    OpenMP's threads wait by spinning, which keeps a core from those that they wait for: on two cores that two other
    processes used, a training step took more than six times as long as with threads that sleep. Where nobody else
    computes, sleeping costs up to a fifth. It changes no result. Call it before torch is imported.

    Args:
        threads: that the run computes with.
        others: as `others_computing` counts them.
        cores: of the machine.

    Returns:
        A line for the user; nothing if there is room for all, or if OMP_WAIT_POLICY or GOMP_SPINCOUNT decides it.
    """
    if threads < 2 or threads + others <= cores or {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & {*os.environ}:
        return ""
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    return (
        f"busy machine: {others} other {'process computes' if others == 1 else 'processes compute'} on {cores} cores, "
        f"and this run has {threads} threads; trainer.threads=1 may be faster"
    )
