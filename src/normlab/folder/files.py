"""Reads files from untrusted sources. Imports no torch."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from normlab.host.cores import memory_of_machine


def read_regular(path: Path) -> bytes:
    """The content of a regular file; reading a pipe or a device might never end.

    Raises:
        OSError: it doesn't exist, can't be read, is not a regular file, or is larger than the memory.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file", str(path))
            if found.st_size > memory_of_machine() > 0:
                raise OSError(errno.EFBIG, "it is larger than the memory", str(path))
            return file.read()
    except ValueError:  # not a valid name of a file
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content; of one that can't be read, that of nothing."""
    try:
        return hashlib.sha256(read_regular(path)).hexdigest()
    except OSError:
        return hashlib.sha256(b"").hexdigest()
