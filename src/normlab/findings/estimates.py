"""From the rows of a finding's runs to its numbers: contrasts paired by seed, arms, bounds. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell, Formula
from normlab.findings.verdict import ArmSummary, Bound, Estimate, Row
from normlab.stats.paired import compare

# metrics of which `diverged_value` is what guessing scores; of others, such as a gap, it may be a sound result
_SCORES = ("accuracy", "loss", "bits_per_character", "perplexity")


def margin_of(finding: Finding) -> float:
    """In the unit of the contrasts: of a ratio its logarithm."""
    assert finding.margin is not None
    return math.log(finding.margin) if finding.rule == "ratio" else finding.margin


def contrasts_of(finding: Finding, rows: Sequence[Row], alpha: float) -> list[Estimate]:
    """Every contrast of the finding's metric, signed in favour of the claim, without its state."""
    found = []
    sign = 1 if finding.better == "higher" else -1
    for name, formula in finding.formulas.items():
        values = _contrast(finding, formula, rows, finding.metric)
        if len(values) > 1:
            signed = {seed: sign * value for seed, value in values.items()}
            estimate = _estimate(name, formula, finding.metric, signed, alpha)
            found.append(replace(estimate, ratio=finding.rule == "ratio"))
    return found


def further_of(finding: Finding, rows: Sequence[Row], alpha: float) -> list[Estimate]:
    """The same contrasts of the further metrics, of the runs that have them: plain differences in their unit."""
    plain = finding.model_copy(update={"rule": "difference"})
    found = []
    for label, metric in finding.also.items():
        having = [row for row in rows if is_number(row.get(metric))]
        for name, formula in finding.formulas.items():
            if formula.constant is not None or sum(formula.weights.values()) != 0:
                continue
            values = _contrast(plain, formula, having, metric)
            if len(values) > 1:
                found.append(_estimate(f"{label}: {name}", formula, metric, values, alpha))
    return found


def both_failed(finding: Finding, formula: Formula, rows: Sequence[Row]) -> bool:
    """Has every arm of a contrast failed: all its runs diverged, or it scores no better than guessing?

    An arm is at chance if its mean is better than `diverged_value` by no difference that matters, which is the margin.
    """
    return len(formula.weights) > 1 and all(_failed(finding, rows_of(rows, cell)) for cell in formula.weights)


def _failed(finding: Finding, rows: Sequence[Row]) -> bool:
    if not rows or finding.rule == "exact":
        return False
    if all(row.get("diverged") is True for row in rows):
        return True
    split, _, name = finding.metric.rpartition("/")
    chance = finding.diverged_value
    if chance is None or name not in _SCORES or split not in ("test", "last_test", "validation", "last", "area"):
        return False
    mean = float(np.mean([value_of(finding, row, finding.metric) for row in rows]))
    assert finding.margin is not None
    if finding.rule == "ratio":
        return (mean / chance if finding.better == "higher" else chance / mean) <= finding.margin
    return (mean - chance if finding.better == "higher" else chance - mean) <= finding.margin


def summary_of(finding: Finding, cell: Cell, rows: Sequence[Row], *, edge: bool) -> ArmSummary:
    """A cell's runs in numbers."""
    own = rows_of(rows, cell)
    values = [value_of(finding, row, finding.metric) for row in own] if finding.rule != "exact" else []
    means = {}
    for name in (finding.metric, *finding.also.values()):
        numbers = [row[name] for row in own if is_number(row.get(name))]
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
        edge=edge,
        metrics=means,
    )


def bounds_of(finding: Finding, rows: Sequence[Row]) -> list[Bound]:
    """Every bound of rule=exact that there are runs for."""
    found = []
    for name, metrics in finding.bounds.items():
        cell = next(cell for cell in finding.cells if str(cell) == name)
        for metric, (least, most) in metrics.items():
            values = [value_of(finding, row, metric) for row in rows_of(rows, cell)]
            if values:
                found.append(Bound(name, metric, min(values), max(values), least=least, most=most))
    return found


def value_of(finding: Finding, row: Row, metric: str) -> float:
    """The metric of a run, with what stands for one that diverged.

    Raises:
        InputError: the run has no such number, and nothing stands for it.
    """
    value = row.get(metric)
    if row.get("diverged") is True and metric == finding.metric:
        value = finding.diverged_value
    if value is None or not is_number(value):
        raise InputError(f"{finding.name}: run {row.get('id')} has no {metric}")
    return float(value)


def is_number(value: object) -> bool:
    """Finite, and no text or nothing."""
    return isinstance(value, int | float) and math.isfinite(value)


def rows_of(rows: Sequence[Row], cell: Cell) -> list[Row]:
    """Of one cell."""
    return [row for row in rows if (row["arm"], row["condition"]) == (cell.arm, cell.condition)]


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
    values: dict[int, float] = {}
    for row in rows_of(rows, cell):
        seed = int(row["seed"])
        if seed in values:
            raise InputError(f"{finding.name}: {cell} has two runs of seed {seed}, and which counts is not known")
        values[seed] = value_of(finding, row, metric)
    if finding.rule != "ratio":
        return values
    wrong = [value for value in values.values() if value <= 0]
    if wrong:
        raise InputError(f"{finding.name}: {metric}={wrong[0]:g} of {cell} has no logarithm, which rule=ratio takes")
    return {seed: math.log(value) for seed, value in values.items()}


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
