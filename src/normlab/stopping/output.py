"""Standard output and error that may fail: a closed pipe, terminal or descriptor, a full disk. Imports no torch.

Everything that Python code prints (print, rich, warnings, logging, Lightning's and W&B's own lines) passes through
`sys.stdout` or `sys.stderr`, so these two are where a failure is caught.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

PATIENCE = 5.0  # seconds to wait for a slow reader if writing doesn't block


class Outlet(io.FileIO):
    """Writes to a descriptor. After the first failure, all output is dropped."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._failed = False

    def write(self, data: Any) -> int:
        """Write some of the bytes, or drop them all; returns how many were consumed."""
        if self._failed:
            return len(data)
        try:
            written = super().write(data)
            if written is None and select.select([], [self], [], PATIENCE)[1]:
                written = super().write(data)
        except OSError as error:
            self._failed = True
            self._say(error)
            return len(data)
        return len(data) if written is None else written

    def _say(self, error: OSError) -> None:
        """Warn on standard error, unless the reader has closed the pipe and doesn't want the rest."""
        if self.fileno() == 1 and error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):
            with suppress(OSError):
                os.write(2, f"standard output was lost: {error.strerror}\n".encode())


def tolerate_failing_output() -> None:
    """Make printing never raise; open missing descriptors, so that no other file gets their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
    if sys.stdout is sys.__stdout__:  # not if something captures it
        sys.stdout = _tolerant(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _tolerant(sys.stderr, 2)


def _tolerant(stream: Any, descriptor: int) -> TextIO:
    """The same stream, which writes what it can't encode as an escape; None: it was closed when Python started."""
    encoding, lines, through = "utf-8", True, False
    if stream is not None:
        stream.flush()
        encoding, lines, through = stream.encoding, stream.line_buffering, stream.write_through
    buffer = io.BufferedWriter(Outlet(descriptor))
    return io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=lines, write_through=through)
