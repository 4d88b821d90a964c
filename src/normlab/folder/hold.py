"""A JSON file locked by a process: the operating system releases the lock when the process dies. Imports no torch.

Unlike a PID, the lock is valid in every container of a machine and, on file systems that share locks, such as NFS, on
every machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import weakref
from pathlib import Path
from typing import Any

from normlab.host.process import process_name

_HELD = (errno.EACCES, errno.EAGAIN)


class Hold:
    """Writes and locks the file; deleting the object releases the lock too.

    locked  False: the file system has no locks, so nobody can see that the file is held; the file says so too

    Args:
        path: replaced atomically by a new file, even if somebody holds the old one.
        values: what is written, in addition to `locked`.
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
        # a forked process, such as a worker of a DataLoader, may outlive this one by seconds, and would hold the lock
        mine = weakref.WeakMethod(self.let_go)
        os.register_at_fork(after_in_child=lambda: (let_go := mine()) and let_go())

    def let_go(self) -> None:
        """Release the lock; the file stays."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Release the lock, as the end of the process does."""
        if hasattr(self, "_descriptor"):
            self.let_go()


def is_held(path: Path) -> bool:
    """Does a process, here or elsewhere, hold the file? If it may not be opened, we assume so."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # a shared lock, so that two processes can check at once
    except OSError as error:
        return error.errno in _HELD
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # nobody else knows the new file, so the file system must lack locks
        return False
    return True
