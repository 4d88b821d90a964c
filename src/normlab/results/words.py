"""Numbers and studies in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from normlab.findings.estimates import margin_of
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell, parse
from normlab.findings.judge import alpha_of
from normlab.findings.labels import label, norm_words
from normlab.findings.states import state_of
from normlab.findings.verdict import Estimate, Reason, Verdict
from normlab.findings.wording import (
    estimate_words,
    formula_words,
    in_points,
    level_words,
    margin_words,
    needed_words,
    reason_words,
    scale_of,
)
from normlab.results.sources import StudyResult
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
    "accuracy": "%",
    "loss": "nats",
    "bits_per_character": "bits per character",
    "saved_bytes": "bytes",
    "ceiling": "learning rate",
}
_NAMES = {
    "gap/accuracy": "accuracy in training mode minus in evaluation mode",
    "gradient_growth": "growth of the gradient per layer (factor)",
    "step_ratio": "time of a training step, relative to the other norm",
    "inference_ratio": "time of inference, relative to the other norm",
    "site_ratio": "time of the norms alone, batch norm over layer norm",
    "update_share": "share of batch norm's time spent on running statistics",
    "saved_bytes": "bytes kept for the backward pass",
    "ceiling": "largest learning rate that still learns",
    "drift@50": "change of the state's size, relative to its mean",
}
_TIMES = {"step_ratio": "time of a training step", "inference_ratio": "time of inference"}
INSIDE = {  # quantities of the probes: name and meaning
    "gradient": (
        "gradient at the norms (RMS)",
        "How strong the training signal is when it gets back to the norms.",
    ),
    "activation": (
        "output of the norms (RMS)",
        "The size of the norms' output.",
    ),
    "tid_mean": (
        "batch against running mean (in \N{GREEK SMALL LETTER SIGMA})",
        "How far a batch's means are from the running means that evaluation uses. If this is more than chance "
        "explains, the network is tested under conditions it was not trained in.",
    ),
    "tid_var": (
        "batch against running \N{GREEK SMALL LETTER SIGMA} (relative)",
        "The same for the standard deviations.",
    ),
    "cosine": (
        "cosine between two examples' outputs",
        "At 1 the network no longer distinguishes two examples.",
    ),
    "stable_rank": (
        "stable rank of the norms' output",
        "How many directions the examples of a batch spread over.",
    ),
    "gain_drift": (
        "how far the gains moved (RMS)",
        "How far the learned gains have moved from their initial values.",
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


def with_unit(metric: str, finding: Finding) -> str:
    """`test loss (nats)`; in a comparison of the user's `test loss`, because a regression's is a squared error."""
    name = re.sub(r"@\d+$", "", metric).rpartition("/")[2].removeprefix("late_")
    unit = "" if name == "loss" and finding.rule == "comparison" else _UNITS.get(name, "")
    return f"{metric_words(metric)} ({unit})" if unit else metric_words(metric)


def measured(finding: Finding, estimate: Estimate) -> str:
    """`test accuracy, layer - batch_4:`, `time of a training step, batch over layer, batches_of_8:`."""
    pair = _timed(finding)
    base = _TIMES.get(estimate.metric)
    if pair is None or base is None or len(parse(estimate.formula).weights) != 1:
        plain = estimate.ratio or in_points(estimate.metric)  # the number has its unit
        name = metric_words(estimate.metric) if plain else with_unit(estimate.metric, finding)
        return f"{name}, {formula_words(finding, estimate)}:"
    (cell,) = parse(estimate.formula).weights
    first, second = reversed(pair) if finding.better == "lower" else pair
    return f"{base}, {norm_words(first)} over {norm_words(second)}, {label(finding, cell)}:"


def _timed(finding: Finding) -> tuple[str, str] | None:
    """The two norms whose times each run compares, if they are the same in all cells."""
    found = set()
    for cell in finding.cells:
        choices = dict(c.split("=", 1) for c in [*finding.common, *finding.arms[cell.arm]] if "=" in c)
        found.add((choices.get("norm", ""), choices.get("norm@measure.against", "")))
    pair = next(iter(found))
    return pair if len(found) == 1 and all(pair) else None


def run_phrase(result: StudyResult) -> str:
    """`n = 8 seeds`."""
    counts = {arm.n for arm in result.verdict.arms} if result.verdict else {result.seeds}
    low, high = min(counts, default=0), max(counts, default=0)
    shown = f"n = {low} seeds" if low == high else f"n = {low} to {high} seeds"
    return shown.replace(" ", "\N{NO-BREAK SPACE}")


def deciding(verdict: Verdict, finding: Finding) -> tuple[str, str]:
    """The deciding number with its margin and level; for rule=exact the bounds."""
    estimate = verdict.deciding
    if estimate is None:
        return (reason_words(verdict) if verdict.rule == "exact" else "no number yet"), ""
    margin = f", margin {margin_words(verdict, finding.metric)}" if verdict.margin is not None else ""
    level = f"{level_words(estimate.interval.level)} interval" if estimate.interval is not None else "no interval"
    return estimate_words(estimate), f"{level}{margin}"


FEW = 6  # seeds below which an estimate is a data point


def standing(finding: Finding, verdict: Verdict | None) -> tuple[str, str]:
    """The class and text of a finding's badge: a verdict, or where an estimate points."""
    if verdict is None:
        return "none", "not run"
    if verdict.state != "estimate":
        return verdict.state, verdict.state
    n = min((len(e.seeds) for e in verdict.estimates), default=min((arm.n for arm in verdict.arms), default=0))
    count = f"n\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{n}"
    if verdict.rule == "exact":
        return {
            Reason.BOUNDS_HOLD: ("supported", f"points for, {count}"),
            Reason.BOUNDS_BROKEN: ("contradicted", f"points against, {count}"),
        }.get(verdict.reason, ("estimate", f"open, {count}"))
    if n < FEW:
        return "estimate", f"data point, {count}"
    states = {
        state_of(finding.rule, margin_of(finding), e.interval.low, e.interval.high)[0] if e.interval else "undecided"
        for e in verdict.estimates
    }
    if "contradicted" in states:
        return "contradicted", f"points against, {count}"
    return ("supported", f"points for, {count}") if states == {"supported"} else ("undecided", f"open, {count}")


def to_decide(verdict: Verdict) -> str:
    """What would be needed to decide, from the spread and the margin alone."""
    if verdict.scale == "smoke":
        return "A smoke study decides nothing: run it at scale=quick or full."
    if verdict.state in ("supported", "contradicted"):
        return ""
    if verdict.reason is Reason.INCOMPLETE:
        return "Repeat the command: it runs what is missing."
    if verdict.reason is Reason.EDGE:
        return "Rates beyond the grid: tune again at scale=full, which widens it."
    if verdict.reason is Reason.TOO_FEW_SEEDS:
        return f"A scale with more seeds, such as full{_seeds_more(verdict)}."
    if verdict.reason in (Reason.BOTH_FAILED, Reason.NO_SPREAD):
        return "More seeds would not help until the setting is changed."
    if verdict.reason is Reason.FAILURES:
        return "Scores and failure rates favour different sides; more seeds would not change that."
    if verdict.reason is Reason.KEPT:
        return "A fresh verdict needs fresh seeds in another output folder."
    if words := needed_words(verdict):
        return f"{first_upper(words)}."
    return "An estimate: it has no verdict." if verdict.state == "estimate" else ""


def _seeds_more(verdict: Verdict) -> str:
    return f"; by an upper bound on the spread, {verdict.needed} would be enough" if verdict.needed else ""


def compact(value: float, metric: str = "", digits: int = 4) -> str:
    """So many digits, without a unit; of an accuracy in per cent."""
    return f"{value * scale_of(metric):.{digits}g}"


def rule_words(finding: Finding) -> str:
    """The rule in a sentence."""
    name = metric_words(finding.metric)
    if finding.rule == "exact":
        bounds = sum(len(metrics) for metrics in finding.bounds.values())
        return f"Exact: each of {bounds} bounds holds in every run, or it does not."
    level, of = level_words(1 - alpha_of(finding)), f"at least {finding.at_least}" if finding.at_least else "each"
    contrasts = "the contrast" if len(finding.formulas) == 1 else f"{of} of {len(finding.formulas)} contrasts"
    margin = margin_words(finding, finding.metric)
    errors = ", over seeds and the test's examples" if "examples" in finding.generalises_over else ""
    where = f"must be within ±{margin}" if finding.rule == "equivalence" else f"must be above {margin}"
    claim = "support the claim" if finding.primary else "favour it (an estimate, no verdict)"
    what = f"the {level} interval of {contrasts} of {name}, paired by seed{errors}"
    return f"Rule, fixed in advance: to {claim}, {what}, {where}."


def cells_words(finding: Finding) -> str:
    """The comparison, in a sentence."""
    arms = ", ".join(label(finding, Cell(arm)) for arm in finding.arms)
    conditions = ", ".join(finding.label.get(name) or name.replace("_", " ") for name in finding.conditions)
    where = f", each under {conditions}" if finding.conditions else ""
    common = f", all with {' '.join(finding.common)}" if finding.common else ""
    return f"We compared {arms}{where}{common}."


def budget_words(finding: Finding, result: StudyResult | None) -> str:
    """Seeds, steps and tuning, in a sentence."""
    if result is None or (result.verdict is None and not result.rows):
        return "Not run yet."
    scale = result.verdict.scale if result.verdict else result.source.scale
    spent = " ".join(finding.scales.get(scale, [])) or "the defaults"
    seeds = f"{run_phrase(result)} per cell"
    if finding.tune is None:
        return f"At scale {scale} ({spent}): {seeds}, nothing tuned."
    points = sorted({row["point"] for row in result.tuned if "point" in row})
    tried = ", ".join(f"{point:g}" for point in points or finding.tune.points)
    each = f"each arm under {finding.tune.at}" if finding.tune.at else "each cell separately"
    here = "tuned here" if result.tuned else "as tuned for the reference"
    by = f"{each}, by {metric_words(finding.tune.by)} over {tried}"
    return f"At scale {scale} ({spent}): {seeds}; {finding.tune.option} {here}, {by}."


def progress_words(stages: Sequence[Stage]) -> str:
    """`tuning 30 of 30 runs, reporting 12 of 32 runs (2 running)`."""
    parts = []
    for stage in stages:
        others = ((stage.running, "running"), (stage.failed, "failed"), (stage.paused, "ended early or paused"))
        more = ", ".join(f"{count} {word}" for count, word in others if count)
        name = {"tune": "tuning", "report": "reporting"}.get(stage.name, stage.name)
        parts.append(f"{name} {stage.done} of {stage.planned} runs{f' ({more})' if more else ''}")
    return ", ".join(parts) or "no verdict yet"


def norm_of(finding: Finding, cell: Cell) -> str:
    """The norm of a cell by its overrides; empty if it has none or several."""
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
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]
