"""What each program does first, before the imports that take a second. Imports no torch."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from normlab.stopping.output import tolerate_failing_output
from normlab.stopping.request import STOPS, Stopped, stop_request

AGAIN = 0.05  # seconds until a stop that could not be raised is asked for once more


def begin(name: str) -> None:
    """Signals end the program without a traceback, and output that can't be written doesn't end it.

    Args:
        name: the dunder name of the module that calls it. Nothing happens where it is imported.
    """
    if name != "__main__":
        return
    tolerate_failing_output()
    stop_request().install()
    sys.excepthook = _end
    sys.unraisablehook = _raise_again
    atexit.register(_ignore_signals)  # registered first, called last


def _end(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Report what ended the program, unless it was asked to stop: libraries turn `Stopped` into errors of their own."""
    signum = stop_request().signum
    if signum is None and kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(128 + (signum or signal.SIGINT))


def _raise_again(unraisable: Any) -> None:
    """A signal that arrives in a destructor can't end the program there: Python would print and forget it."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    if threading.main_thread().is_alive():
        with suppress(RuntimeError):  # no thread can be started when the program is ending anyway
            threading.Timer(AGAIN, stop_request().ask_again).start()


def _ignore_signals() -> None:
    """All is done; a signal now would only spoil the exit status."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
