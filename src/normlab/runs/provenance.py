"""Records how a run was made. Imports no torch."""

from __future__ import annotations

import os
import platform
import resource
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from normlab.config.schema import RunConfig
from normlab.config.seeds import derive
from normlab.folder.run_folder import RunFolder

PROJECT = Path(__file__).parents[3]  # a checkout's folder


def command() -> str:
    """The command that started this process, quoted for a shell."""
    program, *arguments = sys.argv
    started = {"normlab": ["normlab"], "__main__.py": ["python", "-m", "normlab"]}.get(Path(program).name)
    return shlex.join([*(started or ["python", program]), *arguments])


def provenance(folder: RunFolder, config: RunConfig, data: str) -> None:
    """Record command, code, versions, machine, threads, seeds and data of a run.

    A resumed run keeps those of its earlier parts, oldest first, as `before`: [{command, time, git, machine}, …].
    """
    values = {
        "command": command(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "folder": str(Path.cwd()),
        "git": git_state(),
        "python": platform.python_version(),
        "packages": packages(),
        "machine": machine(),
        "threads": config.threads,
        "seeds": {purpose: derive(config.seed, purpose) for purpose in ("init", "order", "noise")},
        "data": data,
    }
    earlier = folder.read_provenance()
    before = earlier.get("before")
    before = list(before) if isinstance(before, list) else []
    before += [{k: earlier.get(k) for k in ("command", "time", "git", "machine")}] if earlier else []
    folder.write_provenance({**values, "before": before})


@cache
def packages() -> dict[str, str]:
    """Every installed distribution with its version."""
    return dict(sorted((d.metadata["Name"], d.version) for d in distributions()))


@cache
def git_state() -> dict[str, str] | None:
    """Commit and uncommitted changes at this process's first call; None outside a git checkout."""
    commit = _git("rev-parse", "HEAD")
    return None if commit is None else {"commit": commit, "diff": _git("diff", "HEAD") or ""}


@cache
def machine() -> dict[str, Any]:
    """Name, processor, cores, memory and system."""
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "cuda_visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }


def peak_memory_mb() -> float:
    """Peak memory of this process, in MB."""
    kilo = 1024 if sys.platform != "darwin" else 1
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * kilo / 1e6, 1)


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (OSError, ValueError):
        return None


@cache
def processor() -> str:
    """The processor's model."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


@cache
def graphics() -> str | None:
    """The models of the visible NVIDIA GPUs, as named by the driver; None: there is no driver."""
    try:
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return ", ".join(sorted({line.strip() for line in done.stdout.splitlines()}))


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(PROJECT), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
