"""Verdicts printed on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from normlab.command_line.columns import Column, show
from normlab.findings.finding import Finding
from normlab.findings.verdict import ArmSummary, Verdict
from normlab.findings.wording import (
    estimate_words,
    interval_words,
    needed_words,
    numbers_of,
    reason_words,
    said_words,
    scale_of,
    score_words,
)
from normlab.sweep.board import duration

_COLOURS = {"supported": "green", "contradicted": "red", "undecided": "yellow", "estimate": "cyan"}
_MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "estimate": "·"}


def print_finding(console: Console, verdict: Verdict, finding: Finding, since: float) -> None:
    """Print a verdict with its numbers, and the published numbers for its cells."""
    claim = f"claim {verdict.claim} · " if verdict.claim else ""
    words = reason_words(verdict)
    reason = f" ({words})" if words else ""
    colour = _COLOURS[verdict.state]
    console.print(
        f"[{colour}]{_MARKS[verdict.state]} {verdict.state}[/]{escape(reason)} · {claim}{verdict.finding} "
        f"[dim]at {verdict.scale}, after {duration(since)}[/]",
        highlight=False,
        soft_wrap=True,
    )
    lines = details(verdict, finding)
    lines += [f"published of {cell}: {number}" for cell, number in finding.published.items()]
    for line in lines:
        console.print(f"    {escape(line)}", highlight=False, soft_wrap=True)


def details(verdict: Verdict, finding: Finding) -> list[str]:
    """One line for each contrast, bound and arm."""
    lines = list(numbers_of(verdict, finding))
    lines += [arm_line(arm, finding.metric) for arm in verdict.arms if arm.mean is not None]
    lines += [f"{e.name}: {estimate_words(e, 4)}" for e in verdict.also]
    seeds = min((arm.n for arm in verdict.arms), default=0)
    lines += [words for words in [needed_words(verdict)] if words]
    if len(verdict.looks) > 1:
        lines.append(f"{seeds} seeds; looks planned at {', '.join(map(str, verdict.looks))}, which share the error")
    if verdict.first is not None:
        first = verdict.first
        lines.append(f"extended: the first verdict, with n = {first['n']}, was {first['state']}")
    return lines


def arm_line(arm: ArmSummary, metric: str) -> str:
    """`batch_4: 81.2 % ± 0.4 (n = 8, rate 0.01)`."""
    assert arm.mean is not None
    spread = f" ± {arm.sd * scale_of(metric):.2g}" if arm.sd is not None else ""
    rate = f", rate {arm.point:g}{' at an end of the grid' * arm.edge}" if arm.point is not None else ""
    diverged = f", {arm.diverged} diverged" if arm.diverged else ""
    return f"{arm.cell}: {score_words(arm.mean, metric)}{spread} (n = {arm.n}{rate}{diverged})"


def print_study(console: Console, judged: Sequence[tuple[Finding, Verdict]], scale: str, seconds: float) -> None:
    """Print a table with a row per claim, then the number of estimates."""
    rows: list[list[str | Text]] = []
    primaries = sorted(((f, v) for f, v in judged if v.primary), key=lambda pair: pair[1].claim or 0)
    for finding, verdict in primaries:
        said, words = said_words(finding, verdict), reason_words(verdict)
        interval = f" {interval_words(verdict.deciding)}" if verdict.deciding else ""
        reason = f" ({words})" if words and verdict.state != "supported" and words not in said else ""
        state = Text(f"{_MARKS[verdict.state]} {verdict.state}", _COLOURS[verdict.state])
        rows.append([str(verdict.claim), state, f"{said}{interval}{reason}"])
    console.print()
    if primaries:
        show(console, [Column("claim", cut=1), Column("verdict"), Column("found", wraps=True)], rows)
    counts = f"{len(primaries)} verdicts and {len(judged) - len(primaries)} estimates"
    console.print(f"[dim]{counts} at scale={scale} in {duration(seconds)}[/]", highlight=False)


def print_unrun(console: Console, findings: Sequence[Finding], scale: str) -> None:
    """Print in one line which findings don't run at this scale."""
    if findings:
        line = f"not run at {scale}: {', '.join(finding.name for finding in findings)}"
        short = line if len(line) <= 80 else f"not run at {scale}: {len(findings)} findings, which other scales run"
        console.print(f"[dim]{escape(short)}[/]", highlight=False)
