"""Inside a process of `train.py`: it signals itself at a chosen moment, and notes what it computes."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def arrange(at: dict[str, Any]) -> None:
    """Have a signal sent at a moment.

    Args:
        at: {"signal": name, or several separated by spaces} and one of
            "step": n: the training has done n steps
            "validation": n: this process has validated on n batches
            "change": n, "under": folder: this process is about to change a file there for the nth time; with
            "torn", what it was to give its final name is cut in half, as if it were still being written.
        Where the signal is "memory", an allocation fails there instead.
    """
    if "change" in at:
        _at_change(at["change"], Path(at["under"]), at.get("torn", False), at["signal"])
    else:
        _in_training(at, at["signal"])


def _strike(signals: str) -> None:
    if signals == "memory":
        raise MemoryError("struck")
    send(os.getpid(), signals)


def send(pid: int, signals: str) -> None:
    """Signals one after the other, by their names."""
    for name in signals.split():
        os.kill(pid, getattr(signal, name))


def _in_training(at: dict[str, Any], signals: str) -> None:
    from normlab.mirror.progress import Heartbeat

    validated = 0

    def stepped(self: Any, trainer: Any, *_: Any) -> None:
        if trainer.global_step == at.get("step"):
            _strike(signals)

    def validates(self: Any, *_: Any) -> None:
        nonlocal validated
        validated += 1
        if validated == at.get("validation"):
            _strike(signals)

    Heartbeat.on_train_batch_end = stepped
    Heartbeat.on_validation_batch_end = validates


def _at_change(number: int, under: Path, torn: bool, signals: str) -> None:
    changes = 0

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event not in CHANGES or not _changes(event, arguments, under):
            return
        changes += 1
        if changes != number:
            return
        if torn and event == "os.rename":
            os.truncate(arguments[0], Path(arguments[0]).stat().st_size // 2)
        _strike(signals)

    sys.addaudithook(heard)


def _changes(event: str, arguments: tuple[Any, ...], under: Path) -> bool:
    if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
        return False
    path = arguments[0]
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(f"{under}/")


def count_changes(under: Path, note: Path) -> None:
    """Keep in the file `note` how often this process changes a file in the folder `under`."""
    descriptor = os.open(note, os.O_WRONLY | os.O_CREAT)
    changes = 0

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event in CHANGES and _changes(event, arguments, under):
            changes += 1
            os.pwrite(descriptor, str(changes).encode(), 0)

    sys.addaudithook(heard)


def witness(folder: Path) -> None:
    """Note in `folder` each time that this process computes a run, and whether another one does at that time.

    A line says after which step it goes on. The lock tells what the run's own records might not: it is the system's.
    """
    from normlab.measures import training

    measure = training.measure

    def noted(config: Any, place: Any) -> Any:
        with (folder / place.id).open("a") as notes:
            try:
                fcntl.flock(notes, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                notes.write("meanwhile ")
            notes.write(f"{place.resume.step if place.resume else 0}\n")
            notes.flush()
            return measure(config, place)

    training.measure = noted
