"""A worker of a multirun ends with it: joblib's would wait for one that was killed for ever. Imports no torch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

MULTIRUN = "NORMLAB_MULTIRUN"  # in the environment of all that a multirun starts: its process
GRACE = 60.0  # seconds that a run has to save
PAUSE = 0.5  # seconds between two looks at the parent


@contextmanager
def ending_with_its_multirun() -> Iterator[None]:
    """Around a job. Is the multirun's process gone, this one saves its run and ends; idle, it ends at once.

    Nothing changes where the job runs in the multirun's own process, or was started by a cluster's queue.
    """
    parent = os.getppid()
    if os.environ.get(MULTIRUN) != str(parent):
        yield
        return
    try:
        with _at_work(parent):
            yield
    finally:
        if os.getppid() != parent:  # nobody takes the result, which is on record
            _end()


@cache
def _at_work(parent: int) -> threading.Lock:
    """Held while a job runs; made once, with the thread that looks after the parent."""
    lock = threading.Lock()
    threading.Thread(target=_watch, args=(parent, lock), daemon=True).start()
    return lock


def _watch(parent: int, at_work: threading.Lock) -> None:
    while os.getppid() == parent:
        time.sleep(PAUSE)
    if not at_work.acquire(blocking=False):
        os.kill(os.getpid(), signal.SIGTERM)
        at_work.acquire(timeout=GRACE)
    _end()


def _end() -> None:
    os._exit(128 + signal.SIGTERM)  # an orderly exit would wait for the multirun too
