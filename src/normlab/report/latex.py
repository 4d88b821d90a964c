r"""Tables as LaTeX, for papers: `\input` them with the package booktabs."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from pathlib import Path

from normlab.findings.finding import Finding
from normlab.findings.judge import PRIMARIES
from normlab.findings.labels import contrast_label
from normlab.findings.states import ALPHA
from normlab.findings.verdict import Estimate, Verdict
from normlab.findings.wording import (
    bound_words,
    estimate_words,
    failure_words,
    formula_words,
    level_words,
    margin_words,
    reason_words,
    scale_of,
    scope_words,
    unit_of,
)
from normlab.results.words import compact, metric_words, with_unit

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREEK SMALL LETTER SIGMA}": r"$\sigma$",
    "π": r"$\pi$",
    "√": r"$\surd$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "…": r"\dots{}",
    "\N{NO-BREAK SPACE}": "~",
}


def escaped(text: str) -> str:
    """The text escaped for LaTeX."""
    return "".join(_SPECIAL.get(letter, letter) for letter in re.sub(r"[\t\n]+", " ", text))


def table(columns: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    r"""A tabular with booktabs' rules; cells must already be LaTeX."""
    lines = [
        f"% {note}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def verdicts_table(found: Sequence[tuple[Finding, Verdict]]) -> str:
    """Every primary: claim, verdict, and the number that decides, with its metric, unit and margin."""
    rows = []
    for finding, verdict in found:
        estimate = verdict.deciding
        shown = _numbers(estimate) if estimate is not None else escaped(reason_words(verdict))
        n = len(estimate.seeds) if estimate is not None else min((arm.n for arm in verdict.arms), default=0)
        metric = escaped(metric_words(estimate.metric if estimate is not None else finding.metric))
        unit = escaped(unit_of(estimate.metric, ratio=estimate.ratio) if estimate is not None else "")
        margin = escaped(margin_words(verdict, finding.metric)) or "--"
        rows.append(
            [str(finding.claim), escaped(finding.title), metric, unit or "--", shown, margin, str(n), verdict.state]
        )
    level = escaped(level_words(1 - ALPHA / PRIMARIES))
    header = ["Claim", "", "Metric", "Unit", f"Estimate [{level} interval]", "Margin", "$n$", "Verdict"]
    return table("clllllrl", header, rows, "verdicts; the estimate is signed so that positive favours the claim")


def write_csv(path: Path, found: Sequence[tuple[Finding, Verdict]]) -> None:
    """Every contrast of every primary, one a row, for spreadsheets; numbers in the unit that the row names."""
    header = ["claim", "title", "verdict", "contrast", "decides", "metric", "unit", "estimate", "low", "high"]
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([*header, "margin", "n"])
        for finding, verdict in found:
            margin = margin_words(verdict, finding.metric)
            for e in verdict.estimates:
                ends = (e.interval.low, e.interval.high) if e.interval is not None else (None, None)
                shown = [f"{_shown(end, e):.6g}" if end is not None else "" for end in (e.mean, *ends)]
                unit = unit_of(e.metric, ratio=e.ratio)
                decides = "yes" if e.name == verdict.decides else "no"
                row = [
                    finding.claim,
                    finding.title,
                    verdict.state,
                    contrast_label(finding, e.name),
                    decides,
                    e.metric,
                    unit,
                    *shown,
                ]
                rows.writerow([*row, margin, len(e.seeds)])
            if not verdict.estimates:
                n = min((arm.n for arm in verdict.arms), default=0)
                rows.writerow([finding.claim, finding.title, verdict.state, reason_words(verdict), *[""] * 7, n])


def _shown(value: float, estimate: Estimate) -> float:
    return math.exp(value) if estimate.ratio else value * scale_of(estimate.metric)


def finding_table(finding: Finding, verdict: Verdict) -> str:
    """A finding's arms and contrasts."""
    rows = [
        [
            escaped(arm.cell),
            _spread(arm.mean, arm.sd, finding.metric),
            f"{arm.point:g}" if arm.point is not None else "",
            str(arm.diverged),
            str(arm.n),
        ]
        for arm in verdict.arms
        if arm.mean is not None
    ]
    header = ["", escaped(with_unit(finding.metric, finding)), "Rate", "Diverged", "$n$"]
    parts = (
        [table("lrrrr", header, rows, f"{finding.name} at {verdict.scale}: mean and standard deviation")]
        if rows
        else []
    )
    contrasts = [
        [escaped(contrast_label(finding, e.name)), escaped(formula_words(finding, e)), _numbers(e), str(len(e.seeds))]
        for e in verdict.estimates
    ]
    if contrasts:
        header = ["Contrast", "", f"Estimate [{escaped(level_words(verdict.level))} interval]", "$n$"]
        parts.append(table("lllr", header, contrasts, f"{finding.name} at {verdict.scale}: contrasts"))
    scopes = [
        [escaped(f"{contrast_label(finding, e.name)}: {scope_words(e)}")] for e in verdict.estimates if scope_words(e)
    ]
    if scopes:
        note = f"{finding.name} at {verdict.scale}: seeds, or seeds and examples"
        parts.append(table("l", ["What the intervals cover"], scopes, note))
    failed = [
        [escaped(f"{contrast_label(finding, e.name)}: {line}")]
        for e in verdict.estimates
        if any(e.failed)
        for line in failure_words(e)
    ]
    if failed:
        parts.append(table("l", ["Runs that failed"], failed, f"{finding.name} at {verdict.scale}: failures"))
    checks = [[escaped(f"{bound.cell}: {bound_words(bound)}")] for bound in verdict.bounds]
    if checks:
        parts.append(table("l", ["Bound"], checks, f"{finding.name} at {verdict.scale}: bounds"))
    return "\n".join(parts)


def write_tables(folder: Path, found: Sequence[tuple[Finding, Verdict]]) -> None:
    """`verdicts.tex`, and one file per finding; those of an earlier report are removed."""
    for old in folder.glob("*.tex"):
        old.unlink()
    primaries = sorted(((f, v) for f, v in found if v.primary), key=lambda pair: pair[0].claim or 0)
    if primaries:
        (folder / "verdicts.tex").write_text(verdicts_table(primaries), encoding="utf-8")
        write_csv(folder / "verdicts.csv", primaries)
    for finding, verdict in found:
        text = finding_table(finding, verdict)
        if text:
            (folder / f"{finding.name}.tex").write_text(text, encoding="utf-8")


def _numbers(estimate: Estimate) -> str:
    return escaped(estimate_words(estimate))


def _spread(mean: float | None, sd: float | None, metric: str) -> str:
    if mean is None:
        return ""
    return f"${compact(mean, metric)}$" + (rf" $\pm$ ${compact(sd, metric, 2)}$" if sd is not None else "")
