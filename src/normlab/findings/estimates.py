"""From the rows of a finding's runs to its numbers: contrasts paired by seed, arms, bounds. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from normlab.config.schema import InputError
from normlab.findings.examples import Scores, over_examples
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell, Formula
from normlab.findings.verdict import ArmSummary, Bound, Estimate, Row
from normlab.stats.guarded import LEAST as LEAST_PAIRS
from normlab.stats.rates import Failures
from normlab.stats.sequential import Design

# metrics whose `diverged_value` is the score of guessing; for others, such as a gap, it may be a sound result
_SCORES = (
    *("accuracy", "loss", "bits_per_character", "perplexity", "r2", "mae", "rmse"),
    *("mean_iou", "mean_dice", "pixel_accuracy"),
)


def margin_of(finding: Finding) -> float:
    """The margin in the unit of the contrasts: for rule=ratio its logarithm."""
    assert finding.margin is not None
    return math.log(finding.margin) if finding.rule == "ratio" else finding.margin


def contrasts_of(
    finding: Finding, rows: Sequence[Row], design: Design | None, look: int, scores: Scores
) -> list[Estimate]:
    """Every contrast of the finding's metric, signed in favour of the claim, without its state.

    Args:
        scores: of the runs that kept their score on each example.
        design: the looks, and the error that they share; None: too few seeds are planned for an interval.
        look: the number of seeds planned up to now.
    """
    found = []
    sign = 1 if finding.better == "higher" else -1
    for name, formula in finding.formulas.items():
        values = {seed: sign * value for seed, value in _contrast(finding, formula, rows, finding.metric).items()}
        if len(values) > 1:
            failed = _failed_seeds(finding, formula, rows, values)
            made = _scored(_blank(name, formula, finding), values, failed, design, look)
            if design is not None:
                made = over_examples(finding, formula, made, rows, scores=scores, alpha=design.error(look))
            found.append(made)
    return found


def _scored(
    estimate: Estimate, values: Mapping[int, float], failed: list[list[int]], design: Design | None, look: int
) -> Estimate:
    """The estimate from the seeds on which no run failed.

    If one side fails on every seed and the other on none, failing is not a rare event but that side's result, and all
    scores are used as they are. If fewer than two seeds are left, all are shown, without an interval.
    """
    seeds = sorted(values)
    fails = Failures(*(tuple(seed in side for seed in seeds) for side in failed))
    always = sorted(len(side) for side in failed) == [0, len(seeds)]
    kept = seeds if always else [seeds[place] for place in fails.kept]
    holds = design is not None and not fails.both_failed and len(kept) >= LEAST_PAIRS
    kept = kept if len(kept) > 1 else seeds
    d = [values[seed] for seed in kept]
    return replace(
        estimate,
        seeds=kept,
        values=d,
        mean=float(np.mean(d)),
        sd=float(np.std(d, ddof=1)),
        interval=design.interval(d, look, left_out=look - len(d)) if design is not None and holds else None,
        left_out=[seed for seed in seeds if seed not in kept],
        failed=failed,
        mean_of_all=float(np.mean([values[seed] for seed in seeds])) if any(failed) else None,
    )


def further_of(finding: Finding, rows: Sequence[Row], design: Design | None, look: int) -> list[Estimate]:
    """The same contrasts for the finding's further metrics, from the runs that have them, in each metric's unit."""
    plain = finding.model_copy(update={"rule": "difference"})
    found = []
    for label, metric in finding.also.items():
        having = [row for row in rows if is_number(row.get(metric)) and row.get("diverged") is not True]
        for name, formula in finding.formulas.items():
            if formula.constant is not None or sum(formula.weights.values()) != 0:
                continue
            values = _contrast(plain, formula, having, metric)
            if len(values) > 1:
                bare = replace(_blank(f"{label}: {name}", formula, plain), metric=metric, sides=[])
                found.append(replace(_scored(bare, values, [[], []], design, look), failed=[]))
    return found


def _blank(name: str, formula: Formula, finding: Finding) -> Estimate:
    sides = [" or ".join(map(str, cells)) for cells in _sides(finding, formula)]
    return Estimate.blank(name, str(formula), finding.metric, sides, ratio=finding.rule == "ratio")


def _sides(finding: Finding, formula: Formula) -> tuple[list[Cell], list[Cell]]:
    """The cells that the claim favours, and the others."""
    favoured = 1 if finding.better == "higher" else -1
    first, second = ([cell for cell, w in formula.weights.items() if w * sign == favoured] for sign in (1, -1))
    return first, second


def _failed_seeds(finding: Finding, formula: Formula, rows: Sequence[Row], seeds: Iterable[int]) -> list[list[int]]:
    """For each side, the seeds on which one of its runs failed."""
    found = []
    for cells in _sides(finding, formula):
        runs = [row for cell in cells for row in rows_of(rows, cell)]
        failed = {int(row["seed"]) for row in runs if has_failed(finding, row)}
        found.append(sorted(failed & set(seeds)))
    return found


def has_failed(finding: Finding, row: Row, metric: str | None = None) -> bool:
    """Has the run diverged, or does it score no better than guessing?

    It is at chance level unless its score is better than `diverged_value` by more than the margin.

    Args:
        metric: the score; None: the finding's metric. `diverged_value` is chance only for a metric of the same name.
    """
    if row.get("diverged") is True:
        return True
    split, _, name = finding.metric.rpartition("/")
    metric, chance = metric or finding.metric, finding.diverged_value
    if chance is None or name not in _SCORES or split not in ("test", "last_test", "validation", "last", "area"):
        return False
    if metric.rpartition("/")[2] != name:
        return False
    value = value_of(finding, row, metric)
    if finding.rule == "ratio":
        return (value / chance if finding.better == "higher" else chance / value) <= (finding.margin or 1.0)
    return (value - chance if finding.better == "higher" else chance - value) <= (finding.margin or 0.0)


def summary_of(finding: Finding, cell: Cell, rows: Sequence[Row], *, edge: bool) -> ArmSummary:
    """The mean and spread of a cell's runs, and how many diverged."""
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
    """Every bound of rule=exact whose cell has runs."""
    found = []
    for name, metrics in finding.bounds.items():
        cell = next(cell for cell in finding.cells if str(cell) == name)
        for metric, (least, most) in metrics.items():
            values = [value_of(finding, row, metric) for row in rows_of(rows, cell)]
            if values:
                found.append(Bound(name, metric, min(values), max(values), least=least, most=most))
    return found


def value_of(finding: Finding, row: Row, metric: str) -> float:
    """The metric of a run; for one that diverged, `diverged_value`.

    Raises:
        InputError: the run has no such number, and there is no value for it.
    """
    value = row.get(metric)
    if row.get("diverged") is True and metric == finding.metric:
        value = finding.diverged_value
    if value is None or not is_number(value):
        raise InputError(f"{finding.name}: run {row.get('id')} has no {metric}")
    return float(value)


def is_number(value: object) -> bool:
    """Is the value a finite number?"""
    return isinstance(value, int | float) and math.isfinite(value)


def rows_of(rows: Sequence[Row], cell: Cell) -> list[Row]:
    """The rows of one cell."""
    return [row for row in rows if (row["arm"], row["condition"]) == (cell.arm, cell.condition)]


def _contrast(finding: Finding, formula: Formula, rows: Sequence[Row], metric: str) -> dict[int, float]:
    """Seed → value of the contrast, for the seeds that every cell has."""
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
    """Seed → the metric; for rule=ratio its logarithm."""
    values: dict[int, float] = {}
    for row in rows_of(rows, cell):
        seed = int(row["seed"])
        if seed in values:
            raise InputError(f"{finding.name}: {cell} has two runs of seed {seed}; leave one per seed")
        values[seed] = value_of(finding, row, metric)
    if finding.rule != "ratio":
        return values
    wrong = [value for value in values.values() if value <= 0]
    if wrong:
        raise InputError(f"{finding.name}: {metric}={wrong[0]:g} of {cell} has no logarithm, which rule=ratio takes")
    return {seed: math.log(value) for seed, value in values.items()}
