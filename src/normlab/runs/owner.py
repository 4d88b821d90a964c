"""Who works on a run: one process (of those that share it, the first), until it lets go or dies. Imports no torch."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from normlab.folder.run_folder import RunFolder
from normlab.stopping.slurm import job_states, this_job


@dataclass(frozen=True)
class Owner:
    """A process, so that it can't be taken for another one.

    host     its machine
    pid      its number there
    started  when it started, in clock ticks since the machine did: numbers are used again
    boot     which start of the machine that was
    slurm    its SLURM job, if any, such as 12 or 12_3 of an array; a requeued job keeps its number
    launch   what all processes that share the run have in common
    resume   the checkpoint that they go on from
    """

    host: str
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    started: str
    boot: str
    slurm: str | None
    launch: str
    resume: str | None = None

    def __str__(self) -> str:
        job = f", SLURM job {self.slurm}" if self.slurm else ""
        return f"process {self.pid} on {self.host}{job}"


def this_process(resume: str | None = None) -> Owner:
    """The process that asks."""
    pid = os.getpid()
    return Owner(socket.gethostname(), pid, _start_of(pid), _boot(), this_job(), launch(), resume)


def launch() -> str:
    """What the processes that share a run, and no others, have in common."""
    if os.environ.get("SLURM_PROCID"):
        return "slurm-" + "-".join(os.environ.get(f"SLURM_{n}", "") for n in ("JOB_ID", "STEP_ID", "RESTART_COUNT"))
    if os.environ.get("TORCHELASTIC_RUN_ID"):
        return f"torchrun-{os.environ['TORCHELASTIC_RUN_ID']}-{os.environ.get('MASTER_PORT')}"
    return f"start-{os.environ.get('NORMLAB_PID', os.getpid())}-{_boot()}"


def read_owner(folder: Path) -> Owner | None:
    """Who is recorded in a run's folder; None if nobody, or if the record is damaged."""
    try:
        return TypeAdapter(Owner).validate_json(json.dumps(RunFolder(folder).read_owner()), strict=True)
    except ValidationError:
        return None


def write_owner(folder: Path, owner: Owner) -> None:
    """Record the owner; the caller holds the lock of all claims."""
    RunFolder(folder).write_owner(asdict(owner))


def is_alive(owner: Owner) -> bool:
    """Does the process still run? One on another machine is taken to, unless SLURM knows better."""
    if owner.host != socket.gethostname():
        return owner.slurm is None or (owner.slurm != this_job() and _runs_in_slurm(owner.slurm))
    if owner.boot != _boot() or (owner.pid == os.getpid() and owner.started == _start_of(owner.pid)):
        return False  # what this process itself left unfinished is no obstacle to it
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return owner.started == _start_of(owner.pid) and not _is_zombie(owner.pid)


def _start_of(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else ""


def _is_zombie(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] in ("Z", "X")


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat behind the command's name; empty where there is no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _runs_in_slurm(job: str) -> bool:
    """Does SLURM still run the job? Where it can't be asked, yes: two processes on one run are the worse mistake."""
    states = job_states(job)
    return states is None or any(s in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED") for s in states.values())
