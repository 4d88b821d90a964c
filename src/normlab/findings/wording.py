"""Verdicts and numbers as text. No other module writes them as text.

Terminal, page, LaTeX, W&B and the sensitivity tables all call these functions. Logarithms of ratios are shown as
factors, accuracies in points (hundredths), everything else in the metric's own unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from normlab.findings.finding import Finding
from normlab.findings.formula import parse
from normlab.findings.labels import label
from normlab.findings.scope import Scope
from normlab.findings.verdict import Bound, Estimate, Reason, Verdict
from normlab.stats.power import MOST

_SENTENCES: dict[Reason, str] = {
    Reason.NONE: "",
    Reason.OPPOSITE: "opposite",
    Reason.IRRELEVANT: "no relevant difference",
    Reason.TOO_SMALL: "too small",
    Reason.DIFFERENT: "different",
    Reason.BOUNDS_HOLD: "{count} bounds hold",
    Reason.BOUNDS_BROKEN: "{broken} of {count} bounds broken",
    Reason.ENOUGH: "{supported} of {count} contrasts hold; at least {at_least} must",
    Reason.NOT_ENOUGH: "{contradicted} of {count} contrasts don't hold; at least {at_least} must",
    Reason.COUNT_OPEN: "{supported} of {count} contrasts hold and {contradicted} don't; at least {at_least} must",
    Reason.AT_MARGIN: "the interval includes the margin",
    Reason.BOTH_FAILED: "both failed: most runs of {contrast} diverged or are at chance level",
    Reason.FEW_PAIRS: "only {left} seeds of {contrast} have no failed run, and a verdict about scores needs {least}",
    Reason.FAILURES: "{side} failed more often, which the scores of {contrast} don't show",
    Reason.KEPT: "the first verdict, at {n} seeds, used up the planned looks and is kept",
    Reason.NO_SPREAD: "no spread: all pairs of {contrast} have the same difference, so no interval can be computed",
    Reason.ALIKE: "{contrast} differs on too few of the test's {examples} examples for an interval over them",
    Reason.NO_RUNS: "no runs",
    Reason.NO_SHARED_SEEDS: "no seeds in common",
    Reason.INCOMPLETE: "incomplete: {cell} has {n} of {planned} seeds",
    Reason.TOO_FEW_SEEDS: "{planned} seeds are too few for a verdict, which needs {least}",
    Reason.EDGE: "edge: the best rate of {cell} is at an end of the grid, {point:g}",
    Reason.RECIPE: "the recipe was chosen on seeds {seeds}, which the runs include: repeat the finding on other seeds",
    Reason.UNUSABLE: "{problem}",
}


def reason_words(verdict: Verdict) -> str:
    """The reason for a verdict, in a clause; empty if the interval alone decides."""
    try:
        return _SENTENCES[verdict.reason].format_map(verdict.facts)
    except (KeyError, ValueError, TypeError):  # a file from another version, or edited by hand
        return verdict.reason.replace("_", " ")


def estimate_words(estimate: Estimate, digits: int = 3) -> str:
    """Mean and interval: `+3.4 points [+2.1, +4.7]`, `1.12 times [1.08, 1.16]`, `+0.151 [+0.142, +0.161]`."""
    mean = number(estimate.mean, estimate.metric, ratio=estimate.ratio, digits=digits)
    unit = unit_of(estimate.metric, ratio=estimate.ratio)
    return f"{mean}{f' {unit}' if unit else ''} {interval_words(estimate, digits)}"


def interval_words(estimate: Estimate, digits: int = 3) -> str:
    """`[+2.1, +4.7]`, or why there is none."""
    if estimate.interval is None:
        return "(no interval)"
    if math.isinf(estimate.interval.low):
        alike = estimate.seeds_alone is not None and math.isfinite(estimate.seeds_alone.low)
        return "(too few examples differ: no interval)" if alike else "(all seeds equal: no interval)"
    ends = (estimate.interval.low, estimate.interval.high)
    return f"[{', '.join(number(end, estimate.metric, ratio=estimate.ratio, digits=digits) for end in ends)}]"


_SCOPES: dict[Scope, str] = {
    Scope.SEEDS: "",
    Scope.EXAMPLES: "over seeds and the test's {examples:,} examples; over seeds alone {alone}",
    Scope.NONE_KEPT: "over seeds only: these runs kept no scores per example",
    Scope.SOME_KEPT: "over seeds only: not every run kept its scores per example",
    Scope.DIVERGED: "over seeds only: runs that diverged have no scores per example",
    Scope.FEW_EXAMPLES: "over seeds only: the test's {examples} examples are too few for an interval over them",
}


def scope_words(estimate: Estimate) -> str:
    """What the interval of a finding about data in general counts the error of; empty for one about seeds alone."""
    alone = interval_words(replace(estimate, interval=estimate.seeds_alone, seeds_alone=None))
    return _SCOPES[estimate.scope].format(examples=estimate.examples, alone=alone)


def needed_words(verdict: Verdict) -> str:
    """What would decide an open verdict, by the spread and the margin alone; empty if nothing is known of it."""
    if verdict.state != "undecided" or not verdict.needed:
        return ""
    if verdict.needed >= MOST and any(e.scope is Scope.EXAMPLES for e in verdict.estimates):
        return "no number of seeds would distinguish margin and zero: that takes a test split with more examples"
    if verdict.needed > min((arm.n for arm in verdict.arms), default=0):
        return f"by an upper bound on the spread, {verdict.needed} seeds would distinguish margin and zero"
    return "the seeds can distinguish the margin from zero; the difference seems to be close to the margin"


def failure_words(estimate: Estimate) -> list[str]:
    """On which seeds a contrast of scores is conditional, and how often runs failed."""
    failures = estimate.failures
    if failures is None or len(estimate.sides) != 2:
        return []
    first, second = (side or "a constant" for side in estimate.sides)
    if not any(estimate.failed):
        return [failures.condition((first, second))]
    if estimate.left_out:
        lines = [failures.condition((first, second))]
    else:
        lines = [f"{' and '.join(_counts(estimate))} failed; the numbers count such runs as chance"]
    rates = failures.difference()
    low, high = rates.interval.low, rates.interval.high
    lines.append(
        f"rate of failure, {first} minus {second}: {rates.difference:+.0%} [{low:+.0%}, {high:+.0%}], "
        f"{level_words(rates.interval.level)} interval, exact p = {rates.p:.2g}".replace("-", "\N{MINUS SIGN}")
    )
    if estimate.left_out and estimate.mean_of_all is not None:
        lines.append(f"with failed runs counted as chance: {value_words(estimate, estimate.mean_of_all)} (no interval)")
    return lines


def _counts(estimate: Estimate) -> list[str]:
    n = len(estimate.all_seeds)
    sides = zip(estimate.sides, estimate.failed, strict=True)
    return [f"{len(failed)} of {n} runs of {side}" for side, failed in sides if side]


def value_words(estimate: Estimate, value: float) -> str:
    """One seed's value of a contrast, with its unit."""
    unit = unit_of(estimate.metric, ratio=estimate.ratio)
    return f"{number(value, estimate.metric, ratio=estimate.ratio, digits=4)}{f' {unit}' if unit else ''}"


def number(value: float, metric: str, *, ratio: bool, digits: int = 3) -> str:
    """A difference of a metric, or a ratio given as its logarithm."""
    if ratio:
        return f"{math.exp(value) if value < 700 else math.inf:.{digits}g}"
    return f"{value * scale_of(metric):+.{digits}g}".replace("-", "\N{MINUS SIGN}").replace("e\N{MINUS SIGN}", "e-")


def scale_of(metric: str) -> float:
    """The factor by which differences of a metric are multiplied for display: accuracies are shown in points."""
    return 100.0 if in_points(metric) else 1.0


def score_words(value: float, metric: str, digits: int = 4) -> str:
    """A score itself: `81.23 %` for an accuracy, otherwise the number in the metric's own unit."""
    shown = f"{value * scale_of(metric):.{digits}g}"
    return f"{shown}\N{NO-BREAK SPACE}%" if in_points(metric) else shown


def in_points(metric: str) -> bool:
    """Is the metric a share of 1 that is shown in hundredths?"""
    name = re.sub(r"@\d+$", "", metric).rpartition("/")[2]
    return name == "accuracy" or name.endswith("_accuracy")


def unit_of(metric: str, *, ratio: bool) -> str:
    """The unit after a number: points, times, or nothing."""
    return "times" if ratio else "points" if in_points(metric) else ""


def margin_words(finding_or_verdict: Finding | Verdict, metric: str) -> str:
    """`1 point`, `a factor of 1.05`, `0.02`; empty for rule=exact."""
    margin = finding_or_verdict.margin
    if margin is None:
        return ""
    if finding_or_verdict.rule == "ratio":
        return f"a factor of {margin:g}"
    shown = f"{margin * scale_of(metric):.6g}"
    return f"{shown} point{'s' * (shown != '1')}" if in_points(metric) else shown


def level_words(level: float) -> str:
    """`99.2 %`; with more digits if 100 % would be shown, which no interval has."""
    shown = f"{100 * level:.1f}"
    return (f"{100 * level:.8g}" if shown == "100.0" else shown).removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def formula_words(finding: Finding, estimate: Estimate) -> str:
    """The contrast with the signs of its numbers (positive favours the claim); a ratio is written as a quotient."""
    flipped = finding.better == "lower" and estimate.metric == finding.metric
    formula = parse(estimate.formula)
    return formula.signed(flipped=flipped, ratio=estimate.ratio, named=lambda cell: label(finding, cell))


def said_words(finding: Finding, verdict: Verdict, estimate: Estimate | None = None) -> str:
    """A contrast's number in a sentence; without one, the deciding contrast's or, for rule=exact, the bounds'."""
    estimate = estimate or verdict.deciding
    if estimate is None:
        sentence = finding.says.get("bounds", "{value}")
        return sentence.format(value=reason_words(verdict) or "no number yet")
    value = f"{number(estimate.mean, estimate.metric, ratio=estimate.ratio)} "
    value = (value + unit_of(estimate.metric, ratio=estimate.ratio)).strip()
    return finding.says.get(estimate.name, f"{formula_words(finding, estimate)}: {{value}}").format(value=value)


def bound_words(bound: Bound) -> str:
    """`train/examples = 0.2 … 0.3, expected ≥ 0.1`."""
    low, high = (score_words(value, bound.metric) for value in (bound.low, bound.high))
    found = low if bound.low == bound.high else f"{low} … {high}"
    return f"{bound.metric} = {found}, expected {_between(bound)}{'' if bound.holds else ': broken'}"


def numbers_of(verdict: Verdict, finding: Finding) -> Sequence[str]:
    """One line for each contrast and bound."""
    lines = []
    used = sorted(set(finding.recipe_seeds) & {seed for e in verdict.estimates for seed in e.all_seeds})
    if used and verdict.reason is not Reason.RECIPE:
        lines.append(f"the recipe was chosen on seeds {', '.join(map(str, used))}, which these numbers include")
    for estimate in verdict.estimates:
        level = f", {level_words(estimate.interval.level)} interval" if estimate.interval is not None else ""
        shown = f"{formula_words(finding, estimate)} = {estimate_words(estimate, 4)}"
        margin = f", margin {margin_words(verdict, finding.metric)}" if verdict.margin is not None else ""
        lines.append(f"{estimate.name}: {shown}{level}, n = {len(estimate.seeds)}{margin}")
        lines += [f"{estimate.name}: {words}" for words in [scope_words(estimate)] if words]
        if finding.seeds == "training" or any(estimate.failed):
            lines += [f"{estimate.name}: {line}" for line in failure_words(estimate)]
    return [*lines, *(f"{bound.cell}: {bound_words(bound)}" for bound in verdict.bounds)]


def _between(bound: Bound) -> str:
    least, most = (None if end is None else score_words(end, bound.metric, 6) for end in (bound.least, bound.most))
    if least is not None and least == most:
        return f"exactly {least}"
    parts = ([f"≥ {least}"] if least is not None else []) + ([f"≤ {most}"] if most is not None else [])
    return " and ".join(parts)
