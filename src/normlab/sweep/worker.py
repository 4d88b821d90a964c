"""Ends a multirun's workers with it: joblib's would wait forever for a killed parent. Imports no torch."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

MULTIRUN = "NORMLAB_MULTIRUN"  # the multirun's process, in the environment of everything that it starts
GRACE = 60.0  # seconds that a run has for saving
PAUSE = 0.5  # seconds between two checks of the parent


@contextmanager
def ending_with_its_multirun() -> Iterator[None]:
    """Around a job: if the multirun's process dies, this one saves its run and ends; an idle worker ends at once.

    It does nothing if the job runs in the multirun's own process, or was started by a cluster's queue.
    """
    parent = os.getppid()
    if os.environ.get(MULTIRUN) != str(parent):
        yield
        return
    try:
        with _at_work(parent):
            yield
    finally:
        if os.getppid() != parent:  # nobody receives the result, but it is recorded
            _end()


@cache
def _at_work(parent: int) -> threading.Lock:
    """The lock held while a job runs; created once, with the thread that watches the parent."""
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
