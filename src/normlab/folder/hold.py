"""A JSON file that a process holds: the operating system locks it until the process lets go or dies. Imports no torch.

Unlike a process number, the lock means the same in every container of a machine, and on file systems that pass locks
on, such as NFS, on every machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from normlab.config.process import process_name

_HELD = (errno.EACCES, errno.EAGAIN)


class Hold:
    """The file, from its writing on; dropping the object lets go too.

    locked  False: the file system has no locks, and nobody can see that the file is held; the file says so too

    Args:
        path: replaced at once by a new file, whatever is there and whoever holds that.
        values: what is written, beside `locked`.
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        part = path.with_name(f".{path.name}.{process_name()}.part")
        self._descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            self.locked = _lock(self._descriptor)
            content = f"{json.dumps({**values, 'locked': self.locked}, indent=1)}\n"
            with os.fdopen(self._descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(content)
            os.fsync(self._descriptor)
            part.replace(path)
        except BaseException:
            self.let_go()
            part.unlink(missing_ok=True)
            raise

    def let_go(self) -> None:
        """The file stays, and nobody holds it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """As at the end of the process."""
        if hasattr(self, "_descriptor"):
            self.let_go()


def is_held(path: Path) -> bool:
    """Does a process, here or elsewhere, hold the file? Of one that may not be opened, this is assumed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, so that two who look see the same
    except OSError as error:
        return error.errno in _HELD
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # nobody else knows the new file: it is the file system that has no locks
        return False
    return True
