"""Reading a file that may have been put there by anybody. Imports no torch."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path) -> bytes:
    """The content of a file. A pipe would never end, and neither would a device.

    Raises:
        OSError: there is none, it can't be read, it is no regular file, or it is larger than the memory.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if stat.S_ISDIR(mode := os.fstat(file.fileno()).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            if not stat.S_ISREG(mode):
                raise OSError(errno.EINVAL, "it is no regular file", str(path))
            return file.read()
    except MemoryError:
        raise OSError(errno.EFBIG, "it is larger than the memory", str(path)) from None
    except ValueError:  # no file can have such a name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
