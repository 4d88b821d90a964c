"""How every run of a multirun ended."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from normlab.command_line.columns import Column, show
from normlab.folder.run_folder import RunFolder
from normlab.sweep.plan import Job, Outcome
from normlab.sweep.results import show_value, shown_value

SHOWN = 40  # rows shown; if there are more, those without a result and the first ones


def print_table(console: Console, jobs: Sequence[Job], outcomes: dict[int, Outcome]) -> None:
    """One row per run, the causes of runs without a result, then the counts."""
    rows = sorted(jobs, key=lambda job: outcomes[job.number].is_result)[:SHOWN]
    shown: list[list[str | Text]] = []
    for job in sorted(rows, key=lambda job: job.number):
        outcome = outcomes[job.number]
        state = Text(outcome.state, _COLOURS.get(outcome.state, "red"))
        shown.append([job.id, state, *_numbers(job, outcome)])
    columns = [Column("run"), Column("", cut=1), Column("result", right=True), Column("time", cut=2, right=True)]
    show(console, columns, shown)
    if len(jobs) > len(rows):
        console.print(f"… and {len(jobs) - len(rows)} more")
    for job in jobs:
        outcome = outcomes[job.number]
        if not outcome.is_result:
            log = f" · {outcome.log}" if outcome.log else ""
            console.print(
                f"[red]{outcome.state}[/] {job.id}: {escape(outcome.cause + log)}", soft_wrap=True, highlight=False
            )
    states = [outcome.state for outcome in outcomes.values()]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys([*_COLOURS, *states]) if state in states]
    console.print(", ".join(counts), highlight=False)


def write_table(jobs: Sequence[Job], outcomes: dict[int, Outcome], path: Path) -> None:
    """Write the complete table as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "state", "overrides", "metric", "value", "seconds", "cause", "log"])
        for job in jobs:
            outcome = outcomes[job.number]
            summary = RunFolder(job.folder).read_summary() if outcome.is_result else {}
            metric, value = shown_value(job.config.measure, summary) or ("", "")
            seconds = summary.get("seconds", "")
            overrides = " ".join(job.overrides)
            rows.writerow([job.id, outcome.state, overrides, metric, value, seconds, outcome.cause, outcome.log or ""])


_COLOURS = {"finished": "green", "skipped": "green", "diverged": "yellow", "paused": "cyan"}


def _numbers(job: Job, outcome: Outcome) -> tuple[str, str]:
    summary = RunFolder(job.folder).read_summary() if outcome.is_result else {}
    value = shown_value(job.config.measure, summary)
    return show_value(value) if value else "", f"{summary['seconds']:.1f} s" if "seconds" in summary else ""
