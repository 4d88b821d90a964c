"""From the rows of a finding's runs to its verdict, by the rule that its YAML has fixed. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from normlab.config.schema import InputError
from normlab.findings.finding import LEAST, Finding
from normlab.findings.formula import Cell, Formula
from normlab.stats.families import holm
from normlab.stats.paired import Interval, compare
from normlab.stats.power import MOST, seeds_for_equivalence, seeds_needed

PRIMARIES = 6  # the family: each primary's interval is at 0.05 / 6, alone or not
ALPHA = 0.05

Row = Mapping[str, Any]  # arm, condition, point, seed, id, diverged, and the summary's columns


@dataclass(frozen=True)
class Estimate:
    """A contrast over the seeds that all its cells have.

    Of rule=ratio everything is in natural logarithms. Signed so that positive favours the claim.

    state  supported, contradicted, undecided; for an exploratory finding: estimate
    kind   of contradicted: opposite, no relevant difference, too small
    """

    name: str
    formula: str
    metric: str
    seeds: list[int]
    values: list[float]
    mean: float
    sd: float
    interval: Interval
    p: float
    sign_flip_p: float
    bootstrap: Interval
    effect: float
    state: str
    kind: str = ""


@dataclass(frozen=True)
class ArmSummary:
    """What a cell's runs gave, in the metric's own unit.

    point   the tuned option's value; None if nothing is tuned
    edge    the best point lies at an end of those tried
    metrics mean of every metric of the finding
    """

    cell: str
    n: int
    mean: float | None
    sd: float | None
    diverged: int
    point: float | None
    edge: bool
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What a finding says at a scale.

    state   supported, contradicted, undecided, or for exploratory findings estimate
    reason  in a clause: the kind of contradiction, or why nothing is decided
    decides the contrast (or bound) that decides
    needed  seeds at which the spread that was seen would be small against the margin, for 80 % power
    first   the verdict before the study was extended, if it was
    """

    finding: str
    claim: int | None
    primary: bool
    title: str
    scale: str
    rule: str
    margin: float | None
    level: float
    state: str
    reason: str
    decides: str
    estimates: list[Estimate]
    also: list[Estimate]
    arms: list[ArmSummary]
    checks: list[str] = field(default_factory=list)  # rule=exact: each bound with what was found
    needed: int | None = None
    holm_p: float | None = None
    first: dict[str, Any] | None = None

    @property
    def deciding(self) -> Estimate | None:
        """The contrast that decides."""
        return next((e for e in self.estimates if e.name == self.decides), None)

    @property
    def p(self) -> float | None:
        """Of the claim that all contrasts hold: the largest, each against no difference."""
        return max(e.p for e in self.estimates) if self.estimates else None


def judge(finding: Finding, rows: Sequence[Row], planned: int, scale: str, edges: Mapping[Cell, bool]) -> Verdict:
    """Apply the rule.

    Args:
        finding: with the rule.
        rows: of the reporting runs that have a result.
        planned: seeds that each cell was to have.
        scale: where the runs come from.
        edges: cells whose tuned option is best at an end of the points.

    Raises:
        InputError: a run lacks the metric, or it diverged and nothing stands for that.
    """
    alpha = ALPHA / PRIMARIES if finding.primary else ALPHA
    arms = [_arm(finding, cell, rows, edges) for cell in finding.cells]
    estimates = [] if finding.rule == "exact" else _estimates(finding, rows, alpha)
    also = [e for label, metric in finding.also.items() for e in _beside(finding, rows, label, metric)]
    checks, broken = _checked(finding, rows)
    short = [arm for arm in arms if arm.n < planned]
    least = LEAST[finding.seeds]
    state, reason, decides = _combined(finding, estimates, checks, broken)
    if short:
        state, reason = "undecided", f"incomplete: {short[0].cell} has {short[0].n} of {planned} seeds"
    elif finding.primary and planned < least:
        state, reason = "undecided", f"{planned} seeds are too few for a verdict, which needs {least}"
    elif finding.primary and any(arm.edge for arm in arms):
        edge = next(arm for arm in arms if arm.edge)
        state, reason = "undecided", f"edge: {edge.cell} is best at an end of the rates tried, {edge.point:g}"
    if not finding.primary and not short:
        state, reason = "estimate", reason if finding.rule == "exact" else ""
    needed = max((_needed(finding, e, alpha) for e in estimates), default=None)
    return replace(
        undecided(finding, scale, reason),
        state=state,
        decides=decides,
        estimates=estimates,
        also=also,
        arms=arms,
        checks=checks,
        needed=needed,
    )


def undecided(finding: Finding, scale: str, reason: str) -> Verdict:
    """The verdict where the rule can't be applied to what the runs gave."""
    return Verdict(
        finding=finding.name,
        claim=finding.claim,
        primary=finding.primary,
        title=finding.title,
        scale=scale,
        rule=finding.rule,
        margin=finding.margin,
        level=1 - ALPHA / PRIMARIES if finding.primary else 1 - ALPHA,
        state="undecided",
        reason=reason,
        decides="",
        estimates=[],
        also=[],
        arms=[],
    )


def with_holm(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Holm's p of each primary in the family of six; what has no p counts as 1, which is never to its favour."""
    known = [v for v in verdicts if v.primary and v.p is not None]
    p = [v.p for v in known if v.p is not None]
    adjusted = holm([*p, *[1.0] * (PRIMARIES - len(p))])
    return {v.finding: value for v, value in zip(known, adjusted, strict=False)}


def state_of(rule: str, margin: float, low: float, high: float) -> tuple[str, str]:
    """State and kind of an interval against the margin (of a ratio: both in logarithms)."""
    if rule == "equivalence":
        if -margin < low and high < margin:
            return "supported", ""
        return ("contradicted", "different") if low > margin or high < -margin else ("undecided", "")
    if low > margin:
        return "supported", ""
    if high >= margin:
        return "undecided", ""
    if high < -margin:
        return "contradicted", "opposite"
    return "contradicted", "no relevant difference" if low > -margin else "too small"


def _estimates(finding: Finding, rows: Sequence[Row], alpha: float) -> list[Estimate]:
    """Every contrast of the finding's metric, with its state under the rule."""
    found = []
    sign = 1 if finding.better == "higher" else -1
    for name, formula in finding.formulas.items():
        values = _contrast(finding, formula, rows, finding.metric)
        if len(values) < 2:
            continue
        estimate = _estimate(
            name, formula, finding.metric, {seed: sign * value for seed, value in values.items()}, alpha
        )
        if finding.primary:
            low, high = estimate.interval.low, estimate.interval.high
            state, kind = state_of(finding.rule, margin_of(finding), low, high)
            estimate = replace(estimate, state=state, kind=kind)
        found.append(estimate)
    return found


def _beside(finding: Finding, rows: Sequence[Row], label: str, metric: str) -> list[Estimate]:
    """The same contrasts of a further metric, of the runs that have it: plain differences in its unit."""
    plain = finding.model_copy(update={"rule": "difference"})
    rows = [row for row in rows if _is_number(row.get(metric))]
    found = []
    for name, formula in finding.formulas.items():
        if formula.constant is not None or sum(formula.weights.values()) != 0:
            continue
        values = _contrast(plain, formula, rows, metric)
        if len(values) > 1:
            found.append(_estimate(f"{label}: {name}", formula, metric, values, ALPHA))
    return found


def _estimate(name: str, formula: Formula, metric: str, values: Mapping[int, float], alpha: float) -> Estimate:
    d = [values[seed] for seed in sorted(values)]
    c = compare(d, alpha)
    return Estimate(
        name=name,
        formula=str(formula),
        metric=metric,
        seeds=sorted(values),
        values=d,
        mean=c.mean,
        sd=c.sd,
        interval=c.interval,
        p=c.p,
        sign_flip_p=c.sign_flip_p,
        bootstrap=c.bootstrap,
        effect=float(c.effect),
        state="estimate",
    )


def margin_of(finding: Finding) -> float:
    """In the unit of the contrasts: of a ratio its logarithm."""
    assert finding.margin is not None
    return math.log(finding.margin) if finding.rule == "ratio" else finding.margin


def _contrast(finding: Finding, formula: Formula, rows: Sequence[Row], metric: str) -> dict[int, float]:
    """Seed → value, for the seeds that every cell has."""
    ratio = finding.rule == "ratio"
    per_cell = {cell: _values(finding, cell, rows, metric) for cell in formula.weights}
    shared = set.intersection(*(set(values) for values in per_cell.values()))
    constant = formula.constant or 0.0
    if ratio and constant:
        constant = math.copysign(1, constant) * math.log(abs(constant))
    return {
        seed: sum(weight * per_cell[cell][seed] for cell, weight in formula.weights.items()) + constant
        for seed in shared
    }


def _values(finding: Finding, cell: Cell, rows: Sequence[Row], metric: str) -> dict[int, float]:
    """Seed → the metric, of rule=ratio its logarithm."""
    own = _rows_of(rows, cell)
    values = {int(row["seed"]): value_of(finding, row, metric) for row in own}
    if finding.rule != "ratio":
        return values
    wrong = [value for value in values.values() if value <= 0]
    if wrong:
        raise InputError(f"{finding.name}: {metric}={wrong[0]:g} of {cell} has no logarithm, which rule=ratio takes")
    return {seed: math.log(value) for seed, value in values.items()}


def value_of(finding: Finding, row: Row, metric: str) -> float:
    """The metric of a run, with what stands for one that diverged.

    Raises:
        InputError: the run has no such number, and nothing stands for it.
    """
    value = row.get(metric)
    if row.get("diverged") is True and metric == finding.metric:
        value = finding.diverged_value
    if value is None or not _is_number(value):
        raise InputError(f"{finding.name}: run {row.get('id')} has no {metric}")
    return float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _rows_of(rows: Sequence[Row], cell: Cell) -> list[Row]:
    return [row for row in rows if (row["arm"], row["condition"]) == (cell.arm, cell.condition)]


def _arm(finding: Finding, cell: Cell, rows: Sequence[Row], edges: Mapping[Cell, bool]) -> ArmSummary:
    own = _rows_of(rows, cell)
    names = [finding.metric, *finding.also.values()]
    values = [value_of(finding, row, finding.metric) for row in own] if finding.rule != "exact" else []
    means = {}
    for name in names:
        numbers = [row[name] for row in own if _is_number(row.get(name))]
        if numbers:
            means[name] = float(np.mean(numbers))
    points = {row.get("point") for row in own}
    return ArmSummary(
        cell=str(cell),
        n=len({row["seed"] for row in own}),
        mean=float(np.mean(values)) if values else None,
        sd=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        diverged=sum(row.get("diverged") is True for row in own),
        point=next(iter(points)) if len(points) == 1 else None,
        edge=bool(edges.get(cell, False)),
        metrics=means,
    )


def _checked(finding: Finding, rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Every bound in words, and those that a run breaks."""
    said, broken = [], []
    for name, metrics in finding.bounds.items():
        cell = next(cell for cell in finding.cells if str(cell) == name)
        for metric, (low, high) in metrics.items():
            values = [value_of(finding, row, metric) for row in _rows_of(rows, cell)]
            if not values:
                continue
            line = f"{name}: {metric} = {_range(values)}, expected {_bounds(low, high)}"
            said.append(line)
            if any((low is not None and v < low) or (high is not None and v > high) for v in values):
                broken.append(line)
    return said, broken


def _range(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.4g}" if low == high else f"{low:.4g} … {high:.4g}"


def _bounds(low: float | None, high: float | None) -> str:
    if low is not None and low == high:
        return f"exactly {low:g}"
    parts = ([f"≥ {low:g}"] if low is not None else []) + ([f"≤ {high:g}"] if high is not None else [])
    return " and ".join(parts)


def _combined(
    finding: Finding, estimates: Sequence[Estimate], checks: Sequence[str], broken: Sequence[str]
) -> tuple[str, str, str]:
    """State, reason and what decides, of all contrasts together."""
    if finding.rule == "exact":
        if broken:
            return "contradicted", f"{len(broken)} of {len(checks)} bounds broken", broken[0]
        return ("supported", f"{len(checks)} bounds hold", checks[0]) if checks else ("undecided", "no runs", "")
    if not estimates:
        return "undecided", "no seeds in common", ""
    margin = margin_of(finding)

    def room(e: Estimate) -> float:
        if finding.rule == "equivalence":
            return min(margin - e.interval.high, margin + e.interval.low)
        return e.interval.low - margin

    worst = min(estimates, key=room)
    states = [state_of(finding.rule, margin, e.interval.low, e.interval.high) for e in estimates]
    if any(state == "contradicted" for state, _ in states):
        against = [e for e, (state, _) in zip(estimates, states, strict=True) if state == "contradicted"]
        worst = min(against, key=room)
        return "contradicted", state_of(finding.rule, margin, worst.interval.low, worst.interval.high)[1], worst.name
    if all(state == "supported" for state, _ in states):
        return "supported", "", worst.name
    return "undecided", "the interval holds the margin", worst.name


def _needed(finding: Finding, estimate: Estimate, alpha: float) -> int:
    """Seeds to tell apart 0 and the margin (equivalence: to show two equal arms equal), from the spread alone."""
    if estimate.sd == 0:
        return LEAST[finding.seeds]
    margin = margin_of(finding)
    wanted = seeds_for_equivalence if finding.rule == "equivalence" else seeds_needed
    return min(max(wanted(margin, estimate.sd, alpha), LEAST[finding.seeds]), MOST)
