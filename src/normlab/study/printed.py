"""Verdicts printed on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape

from normlab.findings.finding import Finding
from normlab.findings.verdict import ArmSummary, Estimate, Verdict
from normlab.findings.wording import estimate_words, needed_words, numbers_of, reason_words, scale_of, score_words
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


def print_study(console: Console, verdicts: Sequence[Verdict], scale: str, seconds: float) -> None:
    """Print one line per claim, then the number of estimates."""
    primaries = sorted((v for v in verdicts if v.primary), key=lambda v: v.claim or 0)
    console.print()
    for verdict in primaries:
        colour, words = _COLOURS[verdict.state], reason_words(verdict)
        number = f" · {estimate_words(verdict.deciding)}" if verdict.deciding else ""
        reason = f" ({words})" if words and verdict.state != "supported" else ""
        console.print(
            f"[bold]claim {verdict.claim}[/] {escape(verdict.title)}: "
            f"[{colour}]{_MARKS[verdict.state]} {verdict.state}[/]{escape(reason)}{escape(number)}",
            highlight=False,
            soft_wrap=True,
        )
    counts = f"{len(primaries)} verdicts and {len(verdicts) - len(primaries)} estimates"
    console.print(f"[dim]{counts} at scale={scale} in {duration(seconds)}[/]", highlight=False)


def print_unrun(
    console: Console, findings: Sequence[Finding], scale: str, known: Mapping[str, tuple[str, Estimate]]
) -> None:
    """Print the findings that don't run at this scale, each with its reference estimate, if there is one."""
    for finding in findings:
        beside = ""
        if finding.name in known:
            of, first = known[finding.name]
            beside = f"; reference ({of}, n = {len(first.seeds)}): {first.name} {estimate_words(first)}"
        console.print(f"[dim]not run at {scale}: {finding.name}{escape(beside)}[/]", highlight=False, soft_wrap=True)
