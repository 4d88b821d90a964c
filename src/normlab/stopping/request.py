"""Ctrl-C, SIGTERM and a cluster's notice: the run saves before its next step, then stops. Imports no torch."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType

from normlab.stopping.slurm import job_states, this_job

# The signal by which submitit hears that its job will be preempted or run out of time.
NOTICE = signal.SIGUSR2
WORDS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM", NOTICE: "the cluster's notice"}


class Stopped(SystemExit):
    """The run was asked to stop and has saved.

    It passes through everything that catches mere exceptions, as whatever asked wants the process to end.
    """

    def __init__(self, signum: signal.Signals) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {WORDS[self.signum]}"


def end_when_asked() -> None:
    """Until the training listens, SIGTERM and the notice end this job at once; submitit would pass over the first."""

    def end(signum: int, _frame: FrameType | None) -> None:
        raise Stopped(_meant(signal.Signals(signum)))

    for number in (signal.SIGTERM, NOTICE):
        signal.signal(number, end)


class StopRequest:
    """Remembers a signal until the run has come to where it can be saved."""

    def __init__(self) -> None:
        self.signum: signal.Signals | None = None
        self._heeds_notice = False

    def listen(self) -> None:
        """From now on Ctrl-C and SIGTERM are requests; so is a cluster's notice where something heeds it."""
        if threading.current_thread() is not threading.main_thread():
            return
        signal.signal(signal.SIGTERM, self._hear)
        signal.signal(signal.SIGINT, self._hear)
        if callable(signal.getsignal(NOTICE)):  # what has started this job will requeue it
            self._heeds_notice = True
            signal.signal(NOTICE, self._hear)

    def _hear(self, signum: int, _frame: FrameType | None) -> None:
        if signum == signal.SIGINT and self.signum == signal.SIGINT:
            raise KeyboardInterrupt  # twice: at once
        if self.signum is None:
            print(f"{WORDS[signal.Signals(signum)]}: saving before the next step ...", file=sys.stderr, flush=True)
        if self.signum != NOTICE:
            self.signum = signal.Signals(signum)

    def obey(self) -> None:
        """End the process; the run is saved.

        Raises:
            Stopped: always.
        """
        # a process that only heard of the request through the others was not signalled itself
        signum = self.signum or signal.SIGTERM
        raise Stopped(_meant(signum) if self._heeds_notice else signum)


def _meant(signum: signal.Signals) -> signal.Signals:
    """Of a job that still runs, SIGTERM is SLURM's notice that it is preempted; a cancelled one is completing."""
    job = this_job()
    if signum == signal.SIGTERM and job is not None and "RUNNING" in (job_states(job) or {}).values():
        return NOTICE
    return signum
