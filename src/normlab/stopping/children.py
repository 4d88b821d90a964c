"""Processes that hear of a stop from the one that started them. Imports no torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

TERMINALS = (signal.SIGINT, signal.SIGHUP)  # sent by a terminal to every process that runs in it


@contextmanager
def starting_deaf() -> Iterator[None]:
    """Processes that this thread starts in the block never hear Ctrl-C or the end of the terminal.

    They inherit what the thread blocks. What is sent to this process itself arrives in another of its threads, and
    Python's handlers still run in the main one.
    """
    over = threading.Event()
    listener = threading.Thread(target=over.wait, daemon=True)
    listener.start()  # before anything is blocked, which it would inherit too
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        over.set()
