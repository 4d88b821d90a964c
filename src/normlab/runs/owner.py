"""The process that works on a run (the first of those that share it), until it ends or dies. Imports no torch."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from normlab.folder.hold import Hold, is_held
from normlab.folder.run_folder import RunFolder
from normlab.host.process import pid_space
from normlab.stopping.slurm import job_states, this_job


@dataclass(frozen=True)
class Owner:
    """A process, identified uniquely.

    host     its machine
    pid      its PID there
    started  when it started, in clock ticks since the machine's boot, because PIDs are reused
    boot     identifies that boot
    slurm    its SLURM job, if any, such as 12 or 12_3 of an array; a requeued job keeps its number
    launch   equal in all processes that share the run
    resume   the checkpoint that they resume from
    space    PID namespace of `pid`: a container has its own; empty if unknown
    locked   it holds a lock on its record; False if the file system has no locks
    """

    host: str
    pid: Annotated[int, Field(gt=0, lt=2**31)]
    started: str
    boot: str
    slurm: str | None
    launch: str
    resume: str | None = None
    space: str = ""
    locked: bool = False

    def __str__(self) -> str:
        job = f", SLURM job {self.slurm}" if self.slurm else ""
        return f"process {self.pid} on {self.host}{job}"


def this_process(resume: str | None = None) -> Owner:
    """This process."""
    pid = os.getpid()
    return Owner(
        host=socket.gethostname(),
        pid=pid,
        started=_start_of(pid),
        boot=_boot(),
        slurm=this_job(),
        launch=launch(),
        resume=resume,
        space=pid_space(),
    )


def launch() -> str:
    """A name that is equal in exactly the processes that share a run."""
    if os.environ.get("SLURM_PROCID"):
        return "slurm-" + "-".join(os.environ.get(f"SLURM_{n}", "") for n in ("JOB_ID", "STEP_ID", "RESTART_COUNT"))
    if os.environ.get("TORCHELASTIC_RUN_ID"):
        return f"torchrun-{os.environ['TORCHELASTIC_RUN_ID']}-{os.environ.get('MASTER_PORT')}"
    return f"start-{os.environ.get('NORMLAB_PID', os.getpid())}-{pid_space()}-{_boot()}"


def read_owner(folder: Path) -> Owner | None:
    """The owner recorded in a run's folder; None if there is none, or if the record is damaged."""
    try:
        return TypeAdapter(Owner).validate_json(json.dumps(RunFolder(folder).read_owner()), strict=True)
    except ValidationError:
        return None


def take(folder: Path, owner: Owner) -> Hold:
    """Record the owner, and lock the record; the caller holds the lock of all claims."""
    return RunFolder(folder).hold_owner(asdict(owner))


def at_work(folder: Path) -> str:
    """Which process works on a run, in words; empty if none does."""
    owner = read_owner(folder)
    if owner is None:  # the record is damaged or missing
        return "another process" if is_held(RunFolder(folder).owner_file) else ""
    return str(owner) if is_alive(owner, folder) else ""


def is_alive(owner: Owner, folder: Path) -> bool:
    """Does the process recorded in a run's folder still run?

    On the same machine the lock on its record decides, in any container. Without locks its PID decides, if it is
    visible. A process on another machine is assumed to run, unless SLURM knows that it doesn't. A reboot of the machine
    has ended it, unless the record is locked.
    """
    if (owner.pid, owner.space, owner.boot, owner.started) == _here():
        return False  # a run that this process itself left unfinished doesn't block it
    held = is_held(RunFolder(folder).owner_file)
    if not _is_same_machine(owner):
        if owner.host == socket.gethostname():
            return held
        return owner.slurm is None or (owner.slurm != this_job() and _runs_in_slurm(owner.slurm))
    if owner.locked or held:
        return held
    return _runs_here(owner) if owner.space in ("", pid_space()) else True


def is_certain(owner: Owner) -> bool:
    """Can this process see reliably whether the other one still runs?"""
    return _is_same_machine(owner) and (owner.locked or owner.space in ("", pid_space()))


def _here() -> tuple[int, str, str, str]:
    pid = os.getpid()
    return pid, pid_space(), _boot(), _start_of(pid)


def _is_same_machine(owner: Owner) -> bool:
    """Is it the same boot of the same system? Its containers may have other host names."""
    return owner.boot == _boot() and (bool(owner.boot) or owner.host == socket.gethostname())


def _runs_here(owner: Owner) -> bool:
    """Is there a process with this PID that started when the owner did?"""
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
    """The fields of /proc/<pid>/stat after the command's name; empty if there is no /proc."""
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
    """Does SLURM still run the job? If it can't be asked, yes, because two processes on one run would be worse."""
    states = job_states(job)
    return states is None or any(s in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED") for s in states.values())
