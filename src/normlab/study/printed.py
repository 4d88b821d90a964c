"""Verdicts as a person reads them on a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from normlab.findings.finding import Finding
from normlab.findings.formula import parse
from normlab.findings.verdict import ArmSummary, Estimate, Verdict
from normlab.folder.study_folder import StudyFolder
from normlab.sweep.board import duration

_COLOURS = {"supported": "green", "contradicted": "red", "undecided": "yellow", "estimate": "cyan"}
_MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?", "estimate": "·"}


def print_finding(console: Console, verdict: Verdict, finding: Finding, since: float) -> None:
    """A verdict with its numbers, as soon as it stands, and what others have published of its cells."""
    claim = f"claim {verdict.claim} · " if verdict.claim else ""
    reason = f" ({verdict.reason})" if verdict.reason else ""
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
    """What each contrast, bound and arm gave, a line each."""
    lines = [shown(verdict, e, finding.better == "lower") for e in verdict.estimates]
    lines += verdict.checks
    lines += [arm_line(arm) for arm in verdict.arms if arm.mean is not None]
    lines += [f"{e.name}: {interval(e, verdict.rule)}" for e in verdict.also]
    seeds = min((arm.n for arm in verdict.arms), default=0)
    if verdict.state == "undecided" and verdict.needed:
        if verdict.needed > seeds:
            lines.append(f"from the spread seen, {verdict.needed} seeds would tell the margin from nothing")
        else:
            lines.append("the seeds would tell the margin from nothing; the difference seems to lie near the margin")
    if verdict.first is not None:
        first = verdict.first
        lines.append(f"extended: the first verdict, with n = {first['n']}, was {first['state']}")
    return lines


def shown(verdict: Verdict, estimate: Estimate, flipped: bool) -> str:
    """`small batches: layer − batch_4 = +0.034 [+0.021, +0.047], 99.2 % interval, n = 8, margin 0.01`."""
    formula = parse(estimate.formula).signed(flipped=flipped, ratio=verdict.rule == "ratio")
    margin = f", margin {verdict.margin:g}" if verdict.margin is not None else ""
    level = f"{100 * estimate.interval.level:.1f} % interval"
    return (
        f"{estimate.name}: {formula} = {interval(estimate, verdict.rule)}, {level}, n = {len(estimate.seeds)}{margin}"
    )


def interval(estimate: Estimate, rule: str) -> str:
    """Mean and interval; of a ratio as factors."""
    values = (estimate.mean, estimate.interval.low, estimate.interval.high)
    if rule == "ratio" and not estimate.name.count(": "):
        mean, low, high = (math.exp(value) for value in values)
        return f"{mean:.4g} times [{low:.4g}, {high:.4g}]"
    return "{:+.4g} [{:+.4g}, {:+.4g}]".format(*values)


def arm_line(arm: ArmSummary) -> str:
    """`batch_4: 0.812 ± 0.004 (n = 8, rate 0.01)`."""
    spread = f" ± {arm.sd:.2g}" if arm.sd is not None else ""
    rate = f", rate {arm.point:g}{' at an end of the grid' * arm.edge}" if arm.point is not None else ""
    diverged = f", {arm.diverged} diverged" if arm.diverged else ""
    return f"{arm.cell}: {arm.mean:.4g}{spread} (n = {arm.n}{rate}{diverged})"


def print_study(console: Console, verdicts: Sequence[Verdict], scale: str, seconds: float) -> None:
    """A line a claim, then what was only estimated."""
    primaries = sorted((v for v in verdicts if v.primary), key=lambda v: v.claim or 0)
    console.print()
    for verdict in primaries:
        colour = _COLOURS[verdict.state]
        deciding = verdict.deciding
        number = f" · {interval(deciding, verdict.rule)}" if deciding else ""
        reason = f" ({verdict.reason})" if verdict.reason and verdict.state != "supported" else ""
        holm = f" · Holm p = {verdict.holm_p:.2g}" if verdict.holm_p is not None else ""
        console.print(
            f"[bold]claim {verdict.claim}[/] {escape(verdict.title)}: "
            f"[{colour}]{_MARKS[verdict.state]} {verdict.state}[/]{escape(reason)}{escape(number)}{holm}",
            highlight=False,
            soft_wrap=True,
        )
    counts = f"{len(primaries)} verdicts and {len(verdicts) - len(primaries)} estimates"
    console.print(f"[dim]{counts} at scale={scale} in {duration(seconds)}[/]", highlight=False)


def print_unrun(console: Console, findings: Sequence[Finding], scale: str, reference: Path) -> None:
    """What this scale leaves out, with the reference's estimate where there is one."""
    known: dict[str, dict[str, Any]] = {}
    for path in sorted(reference.glob("*")):
        known |= {v["finding"]: v for v in StudyFolder(path).read_verdicts()}
    for finding in findings:
        found = known.get(finding.name)
        beside = ""
        if found and found["estimates"]:
            first = found["estimates"][0]
            low, high = first["interval"]["low"], first["interval"]["high"]
            beside = (
                f"; reference ({found['scale']}, n = {len(first['seeds'])}): {first['name']} "
                f"{first['mean']:+.3g} [{low:+.3g}, {high:+.3g}]"
            )
        console.print(f"[dim]not run at {scale}: {finding.name}{escape(beside)}[/]", highlight=False, soft_wrap=True)
