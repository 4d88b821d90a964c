"""The faults: each strikes a trial's run, once or several times, and leaves it so that it can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from damage import damaged_checkpoint, damaged_record, flipped_bit, interrupt
from trial import LIMIT, OTHER, STOPPED, Trial

from normlab.runs.owner import read_owner
from separate import GROUP, USERS, can_be_made
from zygote import Ended

PAGE = os.sysconf("SC_PAGE_SIZE")
ROOMY = 64 << 20
STOPS = ("SIGINT", "SIGTERM", "SIGHUP")


def moment(trial: Trial, signals: str) -> dict[str, Any]:
    """Signals at a random moment: after a step, in a validation, before a file is changed, after a time."""
    rng, reference = trial.rng, trial.reference
    kind = rng.choice(("step", "validation", "change", "time"))
    if kind == "time":
        return {"after": {"signal": signals, "seconds": rng.uniform(0, reference.seconds)}}
    if kind == "step":
        number = rng.randint(min(trial.saved_step() + 1, reference.steps), reference.steps)
    else:
        number = rng.randint(1, reference.validated if kind == "validation" else reference.changes)
    torn = signals == "SIGKILL" and rng.random() < 0.5
    return {"at": {"signal": signals, kind: number, "under": str(trial.stand.scratch), "torn": torn}}


def killed(trial: Trial) -> None:
    trial.give(**moment(trial, "SIGKILL"))


def stopped(trial: Trial) -> None:
    trial.give(**moment(trial, "SIGTERM"))


def struck_many_times(trial: Trial) -> None:
    for _ in range(trial.rng.randint(3, 6)):
        trial.give(**moment(trial, trial.rng.choice(("SIGKILL", "SIGTERM"))))


def closed_terminal_signal(trial: Trial) -> None:
    trial.give(**moment(trial, "SIGHUP"))


def repeated_signals(trial: Trial) -> None:
    """Ctrl-C pressed twice, hammered on, or in turn with other requests."""
    names = [trial.rng.choice(STOPS) for _ in range(trial.rng.choice((2, 3, 30)))]
    trial.give(**moment(trial, " ".join(names)))


def early_signals(trial: Trial) -> None:
    """Before the training listens."""
    for _ in range(2):
        names = " ".join(trial.rng.choice(STOPS) for _ in range(trial.rng.randint(1, 3)))
        trial.give(after={"signal": names, "seconds": trial.rng.uniform(0, 0.3 * trial.reference.seconds)})


def broken_pipe(trial: Trial) -> None:
    """Nobody reads what is printed, as after `| head`, or when Ctrl-C ends the `tee` first; a full disk alike."""
    trial.command = [*trial.command, "trainer.progress=true"]
    fault = moment(trial, "SIGINT") if trial.rng.random() < 0.7 else {}
    (ended,) = trial.give(outlet=trial.rng.choice(("pipe", "full")), **fault)
    if ended.status not in (0, 130):
        trial.complain(OTHER, f"output that fails ended it with status {ended.status}: {ended.err[-300:]}")


def closed_terminal(trial: Trial) -> None:
    trial.command = [*trial.command, "trainer.progress=true"]
    seconds = trial.rng.uniform(0, trial.reference.seconds)
    (ended,) = trial.give(outlet="terminal", after={"close": True, "seconds": seconds})
    if ended.status not in (0, 129):
        trial.complain(OTHER, f"a closed terminal ended it with status {ended.status}: {ended.err[-300:]}")


def killed_worker(trial: Trial) -> None:
    """The system kills a worker of a multirun, which finishes all the same."""
    strike = threading.Thread(target=_kill_owner, args=(trial.folder, trial.rng.uniform(0, 0.5)))
    strike.start()
    (ended,) = trial.stand.zygote(["-m", "launcher=joblib", *trial.command], limit=LIMIT)
    strike.join()
    trial.struck += 1
    if ended.status or trial.finished() is None:
        trial.complain(OTHER, f"the multirun ended with status {ended.status}: {ended.out[-600:]}{ended.err[-600:]}")


def two_commands_on_one_cell(trial: Trial) -> None:
    """Two multiruns that share a run: one does it, the other waits for it; often one of them is stopped."""
    trial.command = ["-m", *trial.command]
    fault = moment(trial, trial.rng.choice(STOPS)) if trial.rng.random() < 0.5 else {}
    struck, other = trial.give(times=2, apart=trial.rng.uniform(0, trial.reference.seconds), **fault)
    trial.command = trial.command[1:]
    if other.status or struck.status not in (0, *STOPPED):
        statuses = f"statuses {struck.status} and {other.status}"
        trial.complain(OTHER, f"{statuses}: {struck.err[-300:]} {other.out[-300:]}{other.err[-300:]}")


def full_disk(trial: Trial) -> None:
    """A disk without room for the result, once or twice; then with."""
    used = (ROOMY // PAGE - os.statvfs(trial.output).f_bfree) * PAGE
    files = [path.stat().st_size for path in trial.reference.folder.rglob("*") if path.is_file()]
    result = sum(-(-size // PAGE) * PAGE for size in files)
    for room in sorted(trial.rng.uniform(0, result) for _ in range(trial.rng.randint(1, 2))):
        _remount(trial, f"size={used + int(room)}")
        (ended,) = trial.give()
        _explained(trial, ended, "disk is full", "No space left on device")
    _remount(trial, f"size={ROOMY}")


def read_only_folder(trial: Trial) -> None:
    """Read-only from the start, from a moment on, or when the run has been killed or has finished."""
    when = trial.rng.choice(("start", "meanwhile", "killed", "finished"))
    if when == "killed":
        killed(trial)
    if when == "finished":
        trial.give()
    delay = trial.rng.uniform(0, trial.reference.seconds) if when == "meanwhile" else 0.0
    with _read_only(trial, delay):
        (ended,) = trial.give()
    if ended.status or not trial.finished():
        _explained(trial, ended, "Read-only file system", "no permission to write")


def two_at_once(trial: Trial) -> None:
    """The command twice, new or of a killed run; often the first of the two is killed meanwhile."""
    if trial.rng.random() < 0.5:
        killed(trial)
    fault = moment(trial, "SIGKILL") if trial.rng.random() < 0.5 else {}
    apart = trial.rng.choice((0.0, trial.rng.uniform(0, trial.reference.seconds)))
    for ended in trial.give(times=2, apart=apart, **fault):
        if ended.status == 2:
            _explained(trial, ended, "is working on", "has finished in the meantime")


def moved_folder(trial: Trial) -> None:
    """Killed, and its folder, or the whole project, renamed."""
    if trial.rng.random() < 0.5:
        interrupt(trial)
        trial.settle(trial.output.rename(trial.scratch / "results elsewhere"))
        return
    for name in ("project", "project 2 [b]"):
        project = trial.scratch / name
        trial.place.rename(project) if name != "project" else project.mkdir()
        if name == "project":
            trial.output.rename(project / "outputs")
        trial.place = project
        trial.settle(project / "outputs", Path("outputs"))
        if name == "project":
            interrupt(trial)


def two_users(trial: Trial) -> None:
    """Begun by one user and resumed by another of the group that owns the folder."""
    for folder in (trial.scratch, trial.output, trial.output / "runs", trial.notes, trial.cache):
        os.chown(folder, -1, GROUP)
        folder.chmod(0o2775)
    trial.user = USERS[0]
    for _ in range(trial.rng.randint(1, 3)):
        trial.give(**moment(trial, trial.rng.choice(("SIGKILL", "SIGTERM"))))
        trial.user += 1


def two_containers(trial: Trial) -> None:
    """The command twice, where neither sees the other's process; often the first is killed meanwhile."""
    fault = moment(trial, "SIGKILL") if trial.rng.random() < 0.5 else {}
    if "after" in fault:
        fault = {}  # the signal would reach the container, and not the command
    apart = trial.rng.choice((0.0, trial.rng.uniform(0, trial.reference.seconds)))
    for ended in trial.give(times=2, apart=apart, containers=True, **fault):
        if ended.status == 2:
            _explained(trial, ended, "is working on", "has finished in the meantime")


def full_memory(trial: Trial) -> None:
    """An allocation fails, once or twice."""
    for _ in range(trial.rng.randint(1, 2)):
        fault = moment(trial, "memory")
        while "after" in fault:
            fault = moment(trial, "memory")
        (ended,) = trial.give(**fault)
        if ended.status:
            _explained(trial, ended, "memory")


STRIKES: dict[str, Callable[[Trial], None]] = {
    "SIGKILL": killed,
    "SIGTERM": stopped,
    "many signals in a row": struck_many_times,
    "SIGHUP": closed_terminal_signal,
    "repeated signals": repeated_signals,
    "early signals": early_signals,
    "broken pipe": broken_pipe,
    "closed terminal": closed_terminal,
    "killed worker": killed_worker,
    "two commands on one cell": two_commands_on_one_cell,
    "full disk": full_disk,
    "read-only folder": read_only_folder,
    "damaged checkpoint": damaged_checkpoint,
    "damaged record": damaged_record,
    "two processes at once": two_at_once,
    "moved folder": moved_folder,
    "flipped bit": flipped_bit,
    "two users": two_users,
    "two containers": two_containers,
    "full memory": full_memory,
}
ON_A_MOUNT = ("full disk", "read-only folder")


def cannot(fault: str, *, mounts: bool) -> str:
    """Why a fault can't strike here; empty if it can."""
    if fault in ON_A_MOUNT and not mounts:
        return "no file system can be mounted here (root, or user namespaces, needed)"
    if fault == "two users" and os.getuid() != 0:
        return "only root can become another user"
    return can_be_made() if fault == "two containers" else ""


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A small file system of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _remount(trial: Trial, option: str) -> None:
    """With another option; a file that is just being written keeps it from becoming read-only for a while."""
    for _ in range(500):
        done = subprocess.run(["mount", "-o", f"remount,{option}", trial.output], capture_output=True, text=True)
        if done.returncode == 0:
            return
        time.sleep(0.002)
    raise RuntimeError(done.stderr)


@contextmanager
def _read_only(trial: Trial, delay: float) -> Iterator[None]:
    """In the block, after a delay if that is not 0."""
    timer = threading.Timer(delay, _remount, (trial, "ro"))
    timer.start()
    if delay == 0.0:
        timer.join()
    try:
        yield
    finally:
        timer.join()
        _remount(trial, "rw")


def _kill_owner(folder: Path, delay: float) -> None:
    """SIGKILL to the process that works on the run, a while after it has begun."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        if (owner := read_owner(folder)) is not None:
            time.sleep(delay)
            with suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGKILL)
            return
        time.sleep(0.01)


def _explained(trial: Trial, ended: Ended, *words: str) -> None:
    if ended.status != 2 or not any(word in ended.err for word in words):
        trial.complain(OTHER, f"status {ended.status} without a clear message: {ended.err[-600:]}")
