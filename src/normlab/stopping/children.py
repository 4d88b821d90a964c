"""Child processes that are stopped by their parent, not by the terminal. Imports no torch."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.resource_tracker import ensure_running

TERMINALS = (signal.SIGINT, signal.SIGHUP)  # sent by a terminal to all its processes


@contextmanager
def starting_deaf() -> Iterator[None]:
    """Processes that this thread starts in the block never receive Ctrl-C or the terminal's hang-up.

    They inherit the thread's blocked signals. Signals to this process itself are delivered to another of its threads,
    and Python's handlers still run in the main one.
    """
    ensure_running()  # Python's resource tracker unblocks Ctrl-C in the thread that starts it
    over = threading.Event()
    listener = threading.Thread(target=over.wait, daemon=True)
    listener.start()  # before any signal is blocked, because the new thread would inherit that too
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        over.set()
