"""The page: one HTML file that contains its style, script and charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.advice.questions import MODELS
from normlab.advice.tell import tell
from normlab.charts.colours import NORMS, variables
from normlab.findings import wording
from normlab.findings.advice import CONDITIONS
from normlab.findings.finding import Finding
from normlab.findings.labels import contrast_label, label
from normlab.findings.verdict import Verdict
from normlab.folder.run_folder import RunFolder
from normlab.report.glossary import TERMS, entry_id, marked
from normlab.results import words
from normlab.results.sources import Source, StudyResult, cell_of

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
_WORDS: tuple[str, ...] = (
    "measured",
    "deciding",
    "to_decide",
    "run_phrase",
    "metric_words",
    "with_unit",
)
_WORDS += ("standing", "first_upper", "rule_words", "cells_words", "budget_words", "compact", "progress_words")
_TABLE_ENDS = re.compile("</t[dhr]>")  # HTML does without them: a fiftieth of the page


def write_page(path: Path, context: Mapping[str, Any], template: str = "page.html") -> None:
    """Fill the template, and replace the page atomically."""
    text = (
        _environment()
        .get_template(template)
        .render(
            **{"classes": {}, **context},
            style=(TEMPLATES / "style.css").read_text(encoding="utf-8"),
            script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
            light=variables(dark=False),
            dark=variables(dark=True),
        )
    )
    text = _TABLE_ENDS.sub("", text)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in _WORDS:
        made.globals[name] = getattr(words, name)
    made.filters["terms"] = marked
    made.globals |= {
        "contrast_label": contrast_label,
        "glossary": TERMS,
        "entry_id": entry_id,
        "colour_name": colour_name,
        "cell_words": cell_words,
        "tell": tell,
        "command": command,
        "diverged": diverged,
        "seed_table": seed_table,
        "agreement": agreement,
        "made_on": made_on,
        "marks": words.MARKS,
        "models": MODELS,
        "conditions": CONDITIONS,
        "inside": words.INSIDE,
        "estimate_words": wording.estimate_words,
        "formula_words": wording.formula_words,
        "reason_words": wording.reason_words,
        "bound_words": wording.bound_words,
        "failure_words": wording.failure_words,
        "scope_words": wording.scope_words,
    }
    return made


def command(finding: Finding, result: StudyResult | None, ours: bool = True) -> str:
    """The command that repeats or completes the results; for a user's own finding, the one that ran it."""
    if not ours and result and result.source.manifest.get("command"):
        return str(result.source.manifest["command"])
    scale = result.verdict.scale if result and result.verdict else result.source.scale if result else ""
    if scale not in finding.scales:
        scale = next((name for name in ("quick", "full", "paper") if name in finding.scales), "full")
    own = " scale.tuning=own" if result and result.tuned and scale == "quick" else ""
    return f"python train.py finding={finding.name} scale={scale}{own}"


def colour_name(finding: Finding, cell: str) -> str:
    """The CSS variable of a cell's norm."""
    found = next((known for known in finding.cells if str(known) == cell), None)
    norm = words.norm_of(finding, found) if found else ""
    return f"--norm-{norm.replace('_', '-')}" if norm in NORMS else "--ink"


def cell_words(finding: Finding, cell: str) -> str:
    """A cell, of which a verdict knows the short name, as people name it."""
    return next((label(finding, known) for known in finding.cells if str(known) == cell), cell)


def diverged(result: StudyResult, cell: str) -> list[tuple[str, int, int]]:
    """Stage, runs that diverged, runs."""
    stages = []
    for stage, rows in (("tuning", result.tuned), ("reporting", result.rows)):
        own = [row for row in rows if str(cell_of(row)) == cell]
        if own:
            stages.append((stage, words.diverged_of(own), len(own)))
    return stages


def seed_table(finding: Finding, result: StudyResult) -> dict[str, Any]:
    """Every seed's value of the metric: cells, and one row per seed of (value, run, folder of the run if it exists)."""
    cells = [str(cell) for cell in finding.cells]
    metrics = [finding.metric]
    if finding.rule == "exact":
        metrics = list(dict.fromkeys(name for bounds in finding.bounds.values() for name in bounds))
    tables = []
    for metric in metrics:
        rows = []
        for seed in sorted({row["seed"] for row in result.rows}):
            found = {str(cell_of(row)): row for row in result.rows if row["seed"] == seed}
            rows.append((seed, [_entry(found.get(cell), metric, result.source) for cell in cells]))
        tables.append({"metric": metric, "rows": rows})
    return {"cells": cells, "tables": tables}


def agreement(finding: Finding, results: Sequence[StudyResult]) -> Iterable[dict[str, Any]]:
    """For contrasts that both studies have: do their intervals overlap, and are the verdicts the same?"""
    if len(results) < 2 or results[0].verdict is None or results[1].verdict is None:
        return
    others = {e.name: e for e in results[1].verdict.estimates}
    for estimate in results[0].verdict.estimates:
        other = others.get(estimate.name)
        if other is None:
            continue
        if estimate.interval is None or other.interval is None:
            continue  # with too few seeds for an interval, it is unknown whether they agree
        low, high = max(estimate.interval.low, other.interval.low), min(estimate.interval.high, other.interval.high)
        yield {"name": contrast_label(finding, estimate.name), "own": estimate, "other": other, "agrees": low <= high}
    if finding.rule == "exact":
        same = _held(results[0].verdict) == _held(results[1].verdict)
        yield {"name": "bounds", "own": None, "other": None, "agrees": same}


def made_on(source: Source) -> str:
    """Commit, machine, versions and time, as far as known."""
    manifest = source.manifest
    machine = manifest.get("machine", {})
    commit = str(manifest.get("commit") or "")[:10]
    parts = [
        f"at commit {commit}{' with changes' if manifest.get('edited') else ''}" if commit else "",
        f"on {machine['cores']} cores of {machine.get('processor', 'a processor')}" if machine.get("cores") else "",
        f"with torch {manifest['packages']['torch']}" if manifest.get("packages", {}).get("torch") else "",
        f"on {str(manifest['time'])[:16].replace('T', ' at ')} UTC" if manifest.get("time") else "",
    ]
    return ", ".join(part for part in parts if part)


def _held(verdict: Verdict) -> dict[tuple[str, str], bool]:
    return {(bound.cell, bound.metric): bound.holds for bound in verdict.bounds}


def _entry(row: Mapping[str, Any] | None, metric: str, source: Source) -> dict[str, str]:
    if row is None:
        return {"value": "", "run": "", "folder": "", "wandb": ""}
    value = row.get(metric)
    shown = words.compact(float(value), metric) if isinstance(value, int | float) else ""
    if row.get("diverged") is True:
        shown = f"{shown} (diverged)".strip()
    run = RunFolder.at(source.folder.parent.parent, str(row["id"]))
    there = source.own and run.folder.is_dir()
    return {
        "value": shown,
        "run": str(row["id"]),
        "folder": str(run.folder) if there else "",
        "wandb": run.read_address() if there else "",
    }
