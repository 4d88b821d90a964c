"""This process's name among all that share a file system."""

from __future__ import annotations

import os
from pathlib import Path


def pid_space() -> str:
    """Which set of process numbers this process is counted in: containers have their own. Empty if unknown."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def process_name() -> str:
    """The process's number and its set, such as `4711-4026531836`: each container may have a process 1."""
    return "-".join(filter(None, (str(os.getpid()), pid_space())))
