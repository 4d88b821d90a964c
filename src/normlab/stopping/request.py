"""What this process does at Ctrl-C, SIGTERM, a closed terminal or a cluster's notice.

The first signal ends the process at once if there is nothing to save. If the request is held (in training, while a
result is recorded), the process saves first. Later signals are only acknowledged, so that nothing interrupts the save,
until a deliberate third one, at least a second after the one before it, quits at once. Imports no torch.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import FrameType
from typing import Any

# The signal that tells submitit that its job will be preempted or run out of time.
NOTICE = signal.SIGUSR2
WORDS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "the closed terminal",
    NOTICE: "the cluster's notice",
}
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DELIBERATE = 1.0  # seconds since the previous signal, to distinguish repeated Ctrl-C from a deliberate one


class Stopped(SystemExit):
    """The process was asked to stop, and has saved its work.

    It isn't caught by `except Exception`, because the process must end.
    """

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {WORDS[self.signum]}"


class Paused(Exception):  # noqa: N818 (a pause is no error)
    """The run has come as far as it was launched for, and has saved its work; it can be resumed.

    step   optimiser steps done
    steps  of the whole run
    """

    def __init__(self, step: int, steps: int) -> None:
        super().__init__(f"at step {step} of {steps} ({100 * step / steps:.0f} %)")
        self.step, self.steps = step, steps


class StopRequest:
    """The request to stop this process, from the signal until the process stops.

    signum  the first signal; None: there was none
    """

    def __init__(self) -> None:
        self.signum: signal.Signals | None = None
        self._replaced: dict[signal.Signals, Any] = {}
        self._held: str | None = None
        self._before_ending: Callable[[], None] | None = None
        self._lost = False
        self._times = 0
        self._heard_at = 0.0

    def install(self) -> bool:
        """Start to handle signals, except ignored ones (nohup); returns whether it didn't handle them before."""
        if self._replaced or threading.current_thread() is not threading.main_thread():
            return False
        heard = [number for number in STOPS if signal.getsignal(number) != signal.SIG_IGN]
        heard += (
            [NOTICE] if callable(signal.getsignal(NOTICE)) else []
        )  # the program that started this job will requeue it
        self._replaced = {number: signal.signal(number, self._hear) for number in heard}
        return True

    def uninstall(self) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    def hold(self, doing: str) -> None:
        """Let requests wait for `obey` or `release` from now on.

        Args:
            doing: what the process does first, for the message, such as "saving before the next step".

        Raises:
            Stopped: there was a request already, and a library caught it; nothing may be recorded after it.
        """
        if self.signum is not None and self._held is None:
            self.obey()
        self._held = doing

    def release(self) -> None:
        """End what `hold` started.

        Raises:
            Stopped: there was a request in the meantime.
        """
        self._held = None
        if self.signum is not None:
            self.obey()

    def obey(self) -> None:
        """End the process, after everything has been saved.

        Raises:
            Stopped: always.
        """
        # a process that learnt of the request from the others may not have received a signal itself
        raise Stopped(self._meaning(self.signum or signal.SIGTERM))

    def ask_again(self) -> None:
        """From another thread, let the main one raise `Stopped` again, because the first one was lost."""
        assert self.signum is not None
        self._lost = True
        os.kill(os.getpid(), self.signum)

    @contextmanager
    def first_doing(self, action: Callable[[], None]) -> Iterator[None]:
        """Delay a request that is not held until the end of the block."""
        before, self._before_ending = self._before_ending, action
        try:
            yield
        finally:
            self._before_ending = before

    def _hear(self, signum: int, _frame: FrameType | None) -> None:
        if not threading.main_thread().is_alive():  # the program has ended, and Python is cleaning up
            return
        if self._lost:
            self._lost = False
            if self._held is None:
                self.obey()
            return
        number, now = signal.Signals(signum), time.monotonic()
        since, self._heard_at = now - self._heard_at, now
        self._times += 1
        if self.signum is not None:
            self._hear_again(number, since)
            return
        self.signum = number
        say(f"{WORDS[number]}: {self._held or 'stopping'} ...")
        if self._held is None:
            if self._before_ending is not None:
                self._before_ending()
            self.obey()

    def _hear_again(self, number: signal.Signals, since: float) -> None:
        assert self.signum is not None
        if self._times >= 3 and since >= DELIBERATE and number in (signal.SIGINT, signal.SIGTERM):
            say("quitting at once; earlier saves stay")
            os._exit(128 + self.signum)
        if self._times == 2:
            say("saving: to quit without saving, wait a second and press Ctrl-C once more")

    def _meaning(self, signum: signal.Signals) -> signal.Signals:
        """Is SIGTERM SLURM's notice of preemption? If so, the job still runs; a cancelled one is completing."""
        if signum != signal.SIGTERM or NOTICE not in self._replaced:
            return signum
        from normlab.stopping.slurm import job_states, this_job

        job = this_job()
        return NOTICE if job is not None and "RUNNING" in (job_states(job) or {}).values() else signum


@cache
def stop_request() -> StopRequest:
    """The request of this process; there is one, because signal handlers belong to the process."""
    return StopRequest()


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Handle signals in the block, and stop after it, unless they were handled before."""
    request = stop_request()
    ours, held = request.install(), request._held
    try:
        yield request
    finally:
        request._held = held
        if ours:
            request.uninstall()
            stop_request.cache_clear()  # the next block starts without a request


def say(text: str) -> None:
    """Write a line to standard error; safe in a signal handler, which may have interrupted a print."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
