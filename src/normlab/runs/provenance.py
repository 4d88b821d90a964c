"""What a run was made with. Imports no torch."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[3]


def command() -> str:
    """The command that started this process, as a shell would repeat it."""
    return shlex.join(["python", *sys.argv])


def provenance(data: str) -> dict[str, Any]:
    """Command, code, versions, machine and data of this run."""
    return {
        "command": command(),
        "folder": str(Path.cwd()),
        "git": git_state(),
        "python": platform.python_version(),
        "packages": {d.metadata["Name"]: d.version for d in distributions()},
        "machine": machine(),
        "data": data,
    }


def git_state() -> dict[str, str] | None:
    """Commit and uncommitted changes; None outside a git checkout."""
    commit = _git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "diff": _git("diff", "HEAD") or ""}


def machine() -> dict[str, Any]:
    """Processor, cores and system."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "cuda_visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def peak_memory_mb() -> float:
    """Most memory that this process has held, in MB."""
    kilo = 1024 if sys.platform != "darwin" else 1
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e6, 1)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
