"""Ctrl-C, SIGTERM, a closed terminal and a cluster's notice: what this process does when it is asked to stop.

The first signal ends the process at once where there is nothing to save; where it is held (in training, while a result
is recorded) the process first comes to where it has saved. Later signals are only acknowledged, so that nothing
cuts the save short, until a deliberate third, which comes at least a second after the one before it: that quits at
once. Imports no torch.
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

# The signal by which submitit hears that its job will be preempted or run out of time.
NOTICE = signal.SIGUSR2
WORDS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "SIGTERM",
    signal.SIGHUP: "the closed terminal",
    NOTICE: "the cluster's notice",
}
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DELIBERATE = 1.0  # seconds since the signal before: hammering on Ctrl-C is one wish, waiting and pressing is another


class Stopped(SystemExit):
    """The process was asked to stop, and has saved what there was to save.

    It passes through everything that catches mere exceptions, as whatever asked wants the process to end.
    """

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {WORDS[self.signum]}"


class StopRequest:
    """The request to stop this process, from the signal that makes it until it is obeyed.

    signum  the first signal; None: nobody has asked
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
        """Hear signals from now on, except those that are ignored, as by nohup; says whether it did not before."""
        if self._replaced or threading.current_thread() is not threading.main_thread():
            return False
        heard = [number for number in STOPS if signal.getsignal(number) != signal.SIG_IGN]
        heard += [NOTICE] if callable(signal.getsignal(NOTICE)) else []  # what has started this job will requeue it
        self._replaced = {number: signal.signal(number, self._hear) for number in heard}
        return True

    def uninstall(self) -> None:
        """Put back the handlers that were there."""
        for number, handler in self._replaced.items():
            signal.signal(number, handler)

    def hold(self, doing: str) -> None:
        """From now on a request waits for `obey` or `release`.

        Args:
            doing: what the message says the process does first, such as "saving before the next step".

        Raises:
            Stopped: there was a request, and whatever caught it must not lead to anything being recorded.
        """
        if self.signum is not None and self._held is None:
            self.obey()
        self._held = doing

    def release(self) -> None:
        """Ends what `hold` started.

        Raises:
            Stopped: there was a request meanwhile.
        """
        self._held = None
        if self.signum is not None:
            self.obey()

    def obey(self) -> None:
        """End the process; what there was to save is saved.

        Raises:
            Stopped: always.
        """
        # a process that only learnt of the request from the others was not signalled itself
        raise Stopped(self._meaning(self.signum or signal.SIGTERM))

    def ask_again(self) -> None:
        """From another thread: have the main one raise `Stopped` once more, as nothing passed it on the first time."""
        assert self.signum is not None
        self._lost = True
        os.kill(os.getpid(), self.signum)

    @contextmanager
    def first_doing(self, action: Callable[[], None]) -> Iterator[None]:
        """In the block, a request that is not held is obeyed after this."""
        before, self._before_ending = self._before_ending, action
        try:
            yield
        finally:
            self._before_ending = before

    def _hear(self, signum: int, _frame: FrameType | None) -> None:
        if not threading.main_thread().is_alive():  # the program has ended, and Python clears up
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
        """Of a job that still runs, SIGTERM is SLURM's notice that it is preempted; a cancelled one is completing."""
        if signum != signal.SIGTERM or NOTICE not in self._replaced:
            return signum
        from normlab.stopping.slurm import job_states, this_job

        job = this_job()
        return NOTICE if job is not None and "RUNNING" in (job_states(job) or {}).values() else signum


@cache
def stop_request() -> StopRequest:
    """That of this process: there is one, as signal handlers are the process's."""
    return StopRequest()


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Hear signals in the block, and after it no longer, unless they were heard before."""
    request = stop_request()
    ours, held = request.install(), request._held
    try:
        yield request
    finally:
        request._held = held
        if ours:
            request.uninstall()
            stop_request.cache_clear()  # who listens next has not been asked yet


def say(text: str) -> None:
    """A line on standard error, from inside a signal handler too, which may have interrupted a print."""
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
