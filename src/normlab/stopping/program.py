"""The first thing each program does, before its slow imports. Imports no torch."""

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

AGAIN = 0.05  # seconds until a stop that could not be raised is tried again


def begin(name: str) -> None:
    """Make signals end the program without a traceback, and make failing output not end it.

    Args:
        name: the dunder name of the calling module. Nothing happens if that module is only imported.
    """
    if name != "__main__":
        return
    tolerate_failing_output()
    stop_request().install()
    sys.excepthook = _end
    sys.unraisablehook = _raise_again
    atexit.register(_ignore_signals)  # registered first, so called last


def _end(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Report an uncaught error, unless the program was asked to stop: libraries turn `Stopped` into other errors."""
    signum = stop_request().signum
    if signum is None and kind is not KeyboardInterrupt:
        sys.__excepthook__(kind, error, trace)
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(128 + (signum or signal.SIGINT))


def _raise_again(unraisable: Any) -> None:
    """Try to stop again if a signal arrived in a destructor, where Python prints and drops exceptions."""
    if not isinstance(unraisable.exc_value, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    if threading.main_thread().is_alive():
        with suppress(RuntimeError):  # no thread can be started while the program is ending, which is fine
            threading.Timer(AGAIN, stop_request().ask_again).start()


def _ignore_signals() -> None:
    """Ignore signals at the very end, where they would only change the exit status."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
