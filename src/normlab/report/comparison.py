"""What a comparison has found, as a table, a paragraph and LaTeX. Imports no torch."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from normlab.command_line.columns import Column, show
from normlab.config.shipped import CONF
from normlab.findings.finding import Finding
from normlab.findings.judge import alpha_of, seeds_to_tell
from normlab.findings.verdict import ArmSummary, Estimate, Reason, Verdict
from normlab.findings.wording import (
    estimate_words,
    failure_words,
    level_words,
    reason_words,
    scale_of,
    score_words,
    unit_of,
)
from normlab.folder.study_folder import StudyFolder
from normlab.report.latex import escaped, table
from normlab.report.page import write_page
from normlab.results.words import metric_words
from normlab.study.choices import chosen

_WORDS = {Reason.NONE: "better", Reason.OPPOSITE: "worse", Reason.IRRELEVANT: "equal"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One norm of a comparison.

    score    mean and standard deviation, in words
    against  the difference from the first norm with its interval, in words; empty for the first
    verdict  better, worse, equal, open, or why there is none; empty for the first
    """

    norm: str
    score: str
    n: int
    rate: str
    against: str = ""
    verdict: str = ""
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """The norms, best first."""

    first: str
    metric: str
    margin: str
    level: str
    tuned: bool
    lines: list[Line]

    @property
    def text(self) -> str:
        """A paragraph to paste."""
        others = [line for line in self.lines if line.verdict]
        parts = [f"{line.norm} {_clause(line)}" for line in others]
        seeds = sorted({line.n for line in self.lines})
        pairs = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
        return (
            f"Compared with {self.first} norm by {self.metric}, on {pairs} pairs of runs of one seed (differences of "
            f"{self.margin} matter; {self.level} intervals, which together keep an error of 5 %): {'; '.join(parts)}. "
            + (
                "Each norm's learning rate was tuned on validation with the same budget and other seeds."
                if self.tuned
                else "All norms have the same learning rate, which was not tuned for each."
            )
        )


def _clause(line: Line) -> str:
    words = {"better": "is better", "worse": "is worse", "equal": "makes no difference that matters"}
    return f"{words.get(line.verdict, _undecided(line.verdict))}, {line.against}"


def _undecided(verdict: str) -> str:
    """`open: about 18 seeds would tell` → `is undecided (about 18 seeds would tell)`."""
    reason = verdict.partition(": ")[2]
    return f"is undecided ({reason})" if reason else "is undecided"


def result(finding: Finding, verdict: Verdict) -> Comparison:
    """The comparison that a verdict holds; norms without runs are left out."""
    first = next(iter(finding.arms))
    sign = 1 if finding.better == "higher" else -1
    ranked = sorted((arm for arm in verdict.arms if arm.mean is not None), key=lambda arm: -sign * (arm.mean or 0.0))
    by_norm = dict(zip(list(finding.arms)[1:], verdict.estimates, strict=False))
    unit = unit_of(finding.metric, ratio=False)
    size = f"{(finding.margin or 0) * scale_of(finding.metric):g}"
    margin = f"{size} {unit.removesuffix('s') if size == '1' else unit}".strip()
    lines = [_line(finding, verdict, arm, by_norm.get(arm.cell)) for arm in ranked]
    return Comparison(
        first=first,
        metric=_metric(finding),
        margin=margin,
        level=level_words(verdict.level),
        tuned=finding.tune is not None,
        lines=lines,
    )


def _metric(finding: Finding) -> str:
    """Its name; of a Lightning project, whose runs call it `best`, the project's own."""
    own = [choice.partition("=")[2] for choice in finding.common if choice.startswith("metric=")]
    return own[0] if own else finding.metric


def _line(finding: Finding, verdict: Verdict, arm: ArmSummary, estimate: Estimate | None) -> Line:
    assert arm.mean is not None
    spread = f" ± {arm.sd * scale_of(finding.metric):.2g}" if arm.sd is not None else ""
    rate = "" if arm.point is None else f"{arm.point:g}"
    diverged = f"{arm.diverged} diverged" if arm.diverged else ""
    score = f"{score_words(arm.mean, finding.metric)}{spread}"
    line = Line(norm=arm.cell, score=score, n=arm.n, rate=rate, note=diverged)
    if estimate is None:
        return line
    failed = "; ".join(failure_words(estimate)) if any(estimate.failed) else ""
    notes = "; ".join(note for note in (diverged, failed) if note)
    return replace(line, against=estimate_words(estimate), verdict=_judged(finding, verdict, estimate), note=notes)


def _judged(finding: Finding, verdict: Verdict, estimate: Estimate) -> str:
    """Better, worse or equal; or open, with how many seeds would tell."""
    if estimate.state in ("supported", "contradicted"):
        return _WORDS.get(estimate.kind, "open")
    if verdict.reason in (Reason.INCOMPLETE, Reason.TOO_FEW_SEEDS):
        return f"open: {reason_words(verdict)}"
    if estimate.kind is Reason.EDGE:
        return "open: its best learning rate is at an end of the grid"
    if estimate.kind is not Reason.AT_MARGIN:
        return f"open: {estimate.kind.replace('_', ' ')}"
    seeds = seeds_to_tell(finding, estimate, alpha_of(finding))
    return "open" if seeds is None or seeds <= len(estimate.seeds) else f"open: about {seeds} seeds would tell"


def conclude(cfg: DictConfig, arguments: Sequence[str], verdict: Verdict) -> None:
    """Print the comparison as a table and a paragraph, and write both into the study's folder, also as a page."""
    study, (finding,), _ = chosen(cfg, CONF, arguments)
    folder = StudyFolder.at(Path(str(cfg.output)), f"{study.name}-{cfg.scale.name}")
    found, console = result(finding, verdict), Console()
    cut = (0, 0, 2, 3, 0, 0)
    columns = [Column(name, cut=c, wraps=c == 0) for name, c in zip(_header(found), cut, strict=True)]
    console.print()
    show(console, columns, [_cells(line) for line in found.lines])
    console.print()
    console.print(found.text, highlight=False, markup=False)
    folder.comparison_text.write_text(found.text + "\n", encoding="utf-8")
    rows = [[escaped(cell) for cell in _cells(line)] for line in found.lines]
    header = [escaped(name) for name in _header(found)]
    folder.comparison_latex.write_text(table("lrrrll", header, rows, finding.title), encoding="utf-8")
    with folder.comparison_table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["norm", "score", "n", "rate", "difference", "verdict", "note"], *_fields(found)])
    context = {"title": finding.title, "found": found, "header": _header(found), "rows": map(_cells, found.lines)}
    write_page(folder.comparison_page, context, "comparison.html")
    written = {
        "to paste": folder.comparison_text,
        "LaTeX": folder.comparison_latex,
        "table": folder.comparison_table,
        "page": folder.comparison_page,
    }
    for what, path in written.items():
        console.print(f"{what}: {path}", highlight=False, markup=False, soft_wrap=True)


def _fields(found: Comparison) -> list[list[str]]:
    return [
        [line.norm, line.score, str(line.n), line.rate, line.against, line.verdict, line.note] for line in found.lines
    ]


def _header(found: Comparison) -> list[str]:
    return ["norm", metric_words(found.metric), "n", "rate", f"difference from {found.first}", ""]


def _cells(line: Line) -> list[str]:
    return [line.norm, line.score, str(line.n), line.rate, line.against, _last(line)]


def _last(line: Line) -> str:
    return ", ".join(part for part in (line.verdict.partition(":")[0], line.note) if part)
