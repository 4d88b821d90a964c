"""A line about what takes long, so that no wait is silent."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

AFTER = 2.0  # seconds; what is done sooner needs no line


@contextmanager
def waiting(what: str, *, shown: bool = True, after: float = AFTER) -> Iterator[None]:
    """Say on stderr what the block does, once it has taken `after` seconds.

    Args:
        shown: False: stay silent, as in a multirun, whose board shows each run.
    """
    line = threading.Timer(after, lambda: print(f"{what} …", file=sys.stderr, flush=True))
    line.daemon = True
    if shown:
        line.start()
    try:
        yield
    finally:
        line.cancel()
