"""Progress of a multirun: a live board on a terminal, one line per run in a pipe.

It is read from the runs' own files, so it is the same for every launcher.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from normlab.command_line.columns import Column, fitted
from normlab.folder.run_folder import RunFolder
from normlab.sweep.plan import Job, Outcome, read_outcome
from normlab.sweep.results import is_better, main_value, show_value, shown_value

REFRESH = 1.0  # seconds
RUNNING_SHOWN = 8
ARMS_SHOWN = 12


class Board:
    """Watches the jobs of an invocation in its own thread, from `__enter__` to `__exit__`.

    Args:
        jobs: all of the multirun.
        outcomes: of the jobs that had finished before.
        invocation: the folder of its plan.
    """

    def __init__(self, console: Console, jobs: Sequence[Job], outcomes: dict[int, Outcome], invocation: Path) -> None:
        self.console = console
        self.jobs = {job.number: job for job in jobs}
        self.invocation = invocation
        self.before = set(outcomes)
        self.outcomes = dict(outcomes)
        self.summaries: dict[int, dict[str, Any]] = {}
        self.running: dict[int, dict[str, Any]] = {}
        self._started = time.monotonic()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        """Show the present state, then watch."""
        for number in self.before:
            self.summaries[number] = RunFolder(self.jobs[number].folder).read_summary()
        if self._live is not None:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Update once more and end."""
        self.close()

    def close(self) -> None:
        """End the display; later output on the screen stays."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join()
        self._look()
        if self._live is not None:
            self._live.stop()

    def _watch(self) -> None:
        while not self._closing.wait(REFRESH):
            self._look()

    def _look(self) -> None:
        """Read what has changed."""
        self.running = {}
        for number, job in self.jobs.items():
            if number in self.outcomes and self.outcomes[number].is_result:
                continue
            outcome = read_outcome(self.invocation / "jobs" / f"{number:04}.json")
            if outcome is not None and outcome != self.outcomes.get(number):
                self.outcomes[number] = outcome
                self._ended(number, outcome)
            elif outcome is None and RunFolder(job.folder).owner_file.exists():
                self.running[number] = RunFolder(job.folder).read_progress()
        if self._live is not None:
            self._live.update(self._picture(), refresh=True)

    def _ended(self, number: int, outcome: Outcome) -> None:
        job = self.jobs[number]
        if outcome.is_result:
            self.summaries[number] = RunFolder(job.folder).read_summary()
        if self._live is not None:
            return
        value = shown_value(job.config.measure, self.summaries.get(number, {}))
        reached = f" · {show_value(value)}" if value else ""
        cause = f" · {outcome.cause}" if outcome.cause else ""
        line = f"{len(self.outcomes)}/{len(self.jobs)} {outcome.state}: {job.id}{reached}{cause}{self._left_text()}"
        self.console.print(escape(line), soft_wrap=True, highlight=False)

    def _left_text(self) -> str:
        seconds = self.seconds_left()
        return "" if seconds is None else f" · about {duration(seconds)} left"

    def seconds_left(self) -> float | None:
        """Seconds left, estimated from the runs finished since the start; None before the first and after the last."""
        lengths: dict[str, list[float]] = defaultdict(list)
        since = [n for n in self.summaries if n not in self.before]
        for number, summary in self.summaries.items():
            if "seconds" in summary:
                lengths[self.jobs[number].cell].append(float(summary["seconds"]))
        left = [number for number in self.jobs if number not in self.outcomes]
        if not since or not left or not lengths:
            return None
        flat = [seconds for group in lengths.values() for seconds in group]
        mean = sum(flat) / len(flat)
        work = 0.0
        for number in left:
            group = lengths.get(self.jobs[number].cell)
            share = self.running.get(number, {})
            done = share.get("step", 0) / share["steps"] if share.get("steps") else 0.0
            work += (sum(group) / len(group) if group else mean) * (1 - done)
        spent = sum(float(self.summaries[n].get("seconds", mean)) for n in since)
        at_once = max(1.0, spent / max(time.monotonic() - self._started, 1e-9))
        return work / at_once

    def _picture(self) -> Group:
        states = [outcome.state for outcome in self.outcomes.values()]
        failed = sum(not outcome.is_result and outcome.state != "elsewhere" for outcome in self.outcomes.values())
        bar = Progress(TextColumn("{task.completed}/{task.total} done"), BarColumn(), TextColumn("{task.description}"))
        counts = f"{len(self.running)} running · [red]{failed} failed[/]" if failed else f"{len(self.running)} running"
        if states.count("diverged"):
            counts += f" · [yellow]{states.count('diverged')} diverged[/]"
        left = len(self.jobs) - len(self.outcomes) - len(self.running)
        bar.add_task(
            f"{counts} · {max(left, 0)} left{self._left_text()}", total=len(self.jobs), completed=len(self.outcomes)
        )
        return Group(bar, self._running_table(), self._arms_table())

    def _running_table(self) -> Table:
        rows = []
        for number, progress in list(self.running.items())[:RUNNING_SHOWN]:
            step = f"step {progress['step']}/{progress['steps']}" if progress.get("steps") else "starting"
            rows.append(["  running", self.jobs[number].id, step])
        return fitted([Column("", cut=1), Column(""), Column("")], rows, self.console.width).table

    def _arms_table(self) -> Table:
        """The best value so far for each combination of options without the seed."""
        best: dict[str, tuple[str, float]] = {}
        counts: dict[str, int] = defaultdict(int)
        for job, summary in self.summaries.items():
            found, cell = main_value(summary), self.jobs[job].cell
            if found is None:
                continue
            counts[cell] += 1
            if cell not in best or is_better(*found, best[cell][1]):
                best[cell] = found
        rows = [
            ["  best", cell or "(defaults)", show_value(value), f"n = {counts[cell]}"]
            for cell, value in list(best.items())[:ARMS_SHOWN]
        ]
        return fitted([Column("", cut=2), Column(""), Column(""), Column("", cut=1)], rows, self.console.width).table


def duration(seconds: float) -> str:
    """`3 h 20 min`, `5 min`, `40 s`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
