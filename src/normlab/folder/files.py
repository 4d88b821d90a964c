"""Reading a file that may have been put there by anybody. Imports no torch."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from normlab.config.cores import memory_of_machine


def read_regular(path: Path) -> bytes:
    """The content of a file. A pipe would never end, and neither would a device.

    Raises:
        OSError: there is none, it can't be read, it is no regular file, or it is larger than the memory.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", str(path))
            if found.st_size > memory_of_machine() > 0:
                raise OSError(errno.EFBIG, "it is larger than the memory", str(path))
            return file.read()
    except ValueError:  # no file can have such a name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content; of one that can't be read, that of nothing."""
    try:
        return hashlib.sha256(read_regular(path)).hexdigest()
    except OSError:
        return hashlib.sha256(b"").hexdigest()
