"""Numbers and studies in plain words."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from normlab.findings.finding import Finding
from normlab.findings.formula import Cell, parse
from normlab.findings.verdict import Estimate, Verdict
from normlab.report.sources import Look
from normlab.study.planned import Stage

MARKS = {
    "supported": "✓",
    "contradicted": "✗",
    "undecided": "?",
    "estimate": "·",
    "half-done": "…",
    "none": "\N{EN DASH}",
}
_SPLITS = {
    "test": "test",
    "last_test": "test, at the last step,",
    "validation": "validation",
    "last": "validation, at the last step,",
    "area": "mean over training of validation",
    "leak": "neighbour's class,",
}
_UNITS = {
    "accuracy": "share of 1",
    "loss": "nats",
    "bits_per_character": "bits a character",
    "saved_bytes": "bytes",
    "ceiling": "learning rate",
}
_NAMES = {
    "gap/accuracy": "accuracy in training mode minus in evaluation mode",
    "gradient_growth": "growth of the gradient, a factor a layer",
    "step_ratio": "time of a training step, over the other norm's",
    "inference_ratio": "time of inference, over the other norm's",
    "site_ratio": "time of batch norm over layer norm, alone",
    "update_share": "share of batch norm's time that running statistics take",
    "saved_bytes": "bytes kept for the backward pass",
    "ceiling": "largest learning rate that still learns",
    "drift@50": "change of the state's size, of its mean size",
}
_TIMES = {"step_ratio": "time of a training step", "inference_ratio": "time of inference"}
INSIDE = {  # what the probes see: its name, and what it tells
    "gradient": (
        "gradient at the norms (RMS)",
        "How strong the training signal is where it comes back to the norms.",
    ),
    "activation": (
        "output of the norms (RMS)",
        "The size of what the norms hand on.",
    ),
    "tid_mean": (
        "batch against running mean (in \N{GREEK SMALL LETTER SIGMA})",
        "How far a batch's means lie from the running ones, which evaluation takes. Above what chance gives, the "
        "network is trained on one thing and tested on another.",
    ),
    "tid_var": (
        "batch against running \N{GREEK SMALL LETTER SIGMA} (relative)",
        "The same of the deviations.",
    ),
    "cosine": (
        "cosine between two examples' outputs",
        "At 1 the network has lost what tells two examples apart.",
    ),
    "stable_rank": (
        "stable rank of the norms' output",
        "How many directions the examples of a batch spread over.",
    ),
    "gain_drift": (
        "how far the gains moved (RMS)",
        "How far the learnt gains have gone from their initial values.",
    ),
    "dead": (
        "share of dead units",
        "ReLU units that give 0 for the whole batch, and so learn nothing from it.",
    ),
}


def metric_words(metric: str) -> str:
    """`test accuracy`."""
    if metric in _NAMES:
        return _NAMES[metric]
    split, _, name = metric.partition("/")
    if split == "inside":
        return INSIDE[name][0] if name in INSIDE else f"inside: {name}"
    words = re.sub(r"@(\d+)", r" at \1 steps", name or split).replace("_", " ")
    return f"{_SPLITS.get(split, split)} {words}" if name else words


def with_unit(metric: str) -> str:
    """`test loss (nats)`."""
    unit = _UNITS.get(re.sub(r"@\d+$", "", metric).rpartition("/")[2].removeprefix("late_"), "")
    return f"{metric_words(metric)} ({unit})" if unit else metric_words(metric)


def number(finding: Finding | None, estimate: Estimate) -> str:
    """`+0.151 [+0.142, +0.161]`; of a ratio `1.12 times [1.08, 1.16]`."""
    values = (estimate.mean, estimate.interval.low, estimate.interval.high)
    if is_ratio(finding, estimate):
        mean, low, high = (math.exp(value) if value < 700 else math.inf for value in values)
        return f"{mean:.3g} times [{low:.3g}, {high:.3g}]"
    return "{:+.3g} [{:+.3g}, {:+.3g}]".format(*values).replace("-", "\N{MINUS SIGN}")


def is_ratio(finding: Finding | None, estimate: Estimate) -> bool:
    """Are its numbers logarithms? Those of further metrics are plain differences."""
    return finding is not None and finding.rule == "ratio" and estimate.metric == finding.metric


def measured(finding: Finding, estimate: Estimate) -> str:
    """`test accuracy, layer - batch_4:`, `time of a training step, batch over layer, batches_of_8:`."""
    pair = _timed(finding)
    base = _TIMES.get(estimate.metric)
    if pair is None or base is None or len(parse(estimate.formula).weights) != 1:
        return f"{with_unit(estimate.metric)}, {shown_formula(finding, estimate)}:"
    (cell,) = parse(estimate.formula).weights
    first, second = reversed(pair) if finding.better == "lower" else pair
    return f"{base}, {first} over {second}, {cell}:"


def _timed(finding: Finding) -> tuple[str, str] | None:
    """The two norms whose times each run compares, the same in all cells."""
    found = set()
    for cell in finding.cells:
        choices = dict(c.split("=", 1) for c in [*finding.common, *finding.arms[cell.arm]] if "=" in c)
        found.add((choices.get("norm", ""), choices.get("norm@measure.against", "")))
    pair = next(iter(found))
    return pair if len(found) == 1 and all(pair) else None


def shown_formula(finding: Finding, estimate: Estimate) -> str:
    """The contrast as its numbers are signed, positive in favour of the claim; of a ratio as a quotient."""
    flipped = finding.better == "lower" and estimate.metric == finding.metric
    return parse(estimate.formula).signed(flipped=flipped, ratio=is_ratio(finding, estimate))


def margin_words(verdict: Verdict) -> str:
    """`margin 0.01`, `margin a factor of 1.05`."""
    if verdict.margin is None:
        return ""
    return f"margin {'a factor of ' if verdict.rule == 'ratio' else ''}{verdict.margin:g}"


def run_phrase(look: Look) -> str:
    """`n = 8 seeds`."""
    counts = {arm.n for arm in look.verdict.arms} if look.verdict else {look.seeds}
    low, high = min(counts, default=0), max(counts, default=0)
    shown = f"n = {low} seeds" if low == high else f"n = {low} to {high} seeds"
    return shown.replace(" ", "\N{NO-BREAK SPACE}")


def deciding(verdict: Verdict, finding: Finding | None) -> tuple[str, str]:
    """The one number that decides, and what to know of it; of rule=exact the bounds."""
    estimate = verdict.deciding
    if estimate is None:
        return (verdict.reason if verdict.rule == "exact" else "no number yet"), ""
    level = f"{100 * estimate.interval.level:.1f}".removesuffix(".0")
    return number(finding, estimate), f"{level}\N{NO-BREAK SPACE}% interval, {margin_words(verdict)}"


def to_decide(verdict: Verdict) -> str:
    """What it would take to decide, from the spread and the margin alone."""
    if verdict.scale == "smoke":
        return "A smoke study decides nothing: run it at scale=quick or full."
    if verdict.state in ("supported", "contradicted"):
        return ""
    reason = verdict.reason
    if reason.startswith("incomplete"):
        return "The same command again: it does what is missing."
    if reason.startswith("edge"):
        return "Rates beyond the grid that was tried: tune again at scale=full, which widens it."
    if "too few" in reason:
        return f"A scale with more seeds, such as full{_seeds_more(verdict)}."
    n = min((arm.n for arm in verdict.arms), default=0)
    if verdict.state == "undecided" and verdict.needed and verdict.needed <= n:
        return (
            f"{n} seeds tell 0 from the margin; what is there lies near the margin itself, and only more can part them."
        )
    if verdict.needed:
        return f"From the spread that was seen, {verdict.needed} seeds would tell 0 from the margin."
    return "An estimate: it belongs to no verdict." if verdict.state == "estimate" else reason


def _seeds_more(verdict: Verdict) -> str:
    return f"; from the spread seen, {verdict.needed} would do" if verdict.needed else ""


def compact(value: float) -> str:
    """Four digits."""
    return f"{value:.4g}"


def rule_words(finding: Finding) -> str:
    """The rule in a sentence."""
    name = metric_words(finding.metric)
    if finding.rule == "exact":
        bounds = sum(len(metrics) for metrics in finding.bounds.values())
        return f"Exact: each of {bounds} bounds holds in every run, or it does not."
    level = "99.2 %" if finding.primary else "95 %"
    contrasts = "the contrast" if len(finding.formulas) == 1 else f"each of {len(finding.formulas)} contrasts"
    where = {
        "difference": f"must lie above {finding.margin:g}",
        "ratio": f"must lie above a factor of {finding.margin:g}",
        "equivalence": f"must lie within ±{finding.margin:g}",
    }[finding.rule]
    claim = "support the claim" if finding.primary else "speak for it (an estimate, no verdict)"
    return (
        f"Rule, fixed in advance: to {claim}, the {level} interval of {contrasts} of {name}, paired by seed, {where}."
    )


def cells_words(finding: Finding) -> str:
    """What is compared, in a sentence."""
    arms = ", ".join(finding.arms)
    where = f", each under {', '.join(finding.conditions)}" if finding.conditions else ""
    common = f", all with {' '.join(finding.common)}" if finding.common else ""
    return f"We compared {arms}{where}{common}."


def budget_words(finding: Finding, look: Look | None) -> str:
    """What was spent, in a sentence."""
    if look is None or (look.verdict is None and not look.rows):
        return "Not run yet."
    scale = look.verdict.scale if look.verdict else look.source.scale
    spent = " ".join(finding.scales.get(scale, [])) or "the defaults"
    seeds = f"{run_phrase(look)} a cell"
    if finding.tune is None:
        return f"At scale {scale} ({spent}): {seeds}, nothing tuned."
    points = sorted({row["point"] for row in look.tuned if "point" in row})
    tried = ", ".join(f"{point:g}" for point in points or finding.tune.points)
    each = f"each arm under {finding.tune.at}" if finding.tune.at else "each cell alone"
    here = "tuned here" if look.tuned else "as tuned for the reference"
    by = f"{each}, by {metric_words(finding.tune.by)} over {tried}"
    return f"At scale {scale} ({spent}): {seeds}; {finding.tune.option} {here}, {by}."


def progress_words(stages: Sequence[Stage]) -> str:
    """`tuning 30 of 30 runs, reporting 12 of 32 runs (2 running)`."""
    parts = []
    for stage in stages:
        others = ((stage.running, "running"), (stage.failed, "failed"))
        more = ", ".join(f"{count} {word}" for count, word in others if count)
        name = {"tune": "tuning", "report": "reporting"}.get(stage.name, stage.name)
        parts.append(f"{name} {stage.done} of {stage.planned} runs{f' ({more})' if more else ''}")
    return ", ".join(parts) or "no verdict yet"


def norm_of(finding: Finding, cell: Cell) -> str:
    """The norm of a cell by its choices; empty where it has several or none is chosen."""
    chosen = [
        choice.removeprefix("norm=")
        for choice in [*finding.common, *finding.conditions.get(cell.condition, []), *finding.arms[cell.arm]]
        if choice.startswith("norm=")
    ]
    timed = any(choice.startswith("norm@measure.against=") for choice in [*finding.common, *finding.arms[cell.arm]])
    return chosen[-1] if chosen and not timed else ""


def diverged_of(rows: list[Mapping[str, object]]) -> int:
    """How many."""
    return sum(row.get("diverged") is True for row in rows)


def first_upper(text: str) -> str:
    """As a sentence begins; the rest as it is."""
    return text[:1].upper() + text[1:]
