"""This process's name among all that share a file system."""

from __future__ import annotations

import os
from pathlib import Path

_FIRST = "4026531836"  # of the host; the kernel's PROC_PID_INIT_INO


def pid_space() -> str:
    """This process's PID namespace: containers have their own. Empty if unknown."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def process_name() -> str:
    """The PID and, in a container, its namespace, such as `1-4026532456`, because every container has a PID 1."""
    space = pid_space()
    return f"{os.getpid()}-{space}" if space not in ("", _FIRST) else str(os.getpid())
