"""A contrast over seeds and the test's examples, where its finding generalises over both. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell, Formula
from normlab.findings.scope import Scope
from normlab.findings.verdict import Estimate, Row
from normlab.stats.guarded import Array
from normlab.stats.paired import Interval
from normlab.stats.two_way import LEAST, in_blocks, two_way

Scores = Mapping[str, Mapping[str, Any]]  # run → metric, split, values, sizes; as `folder.example_scores` reads them
CLOSE = 1e-5  # relative, between a run's metric, which is a float32, and the mean of its scores


def over_examples(
    finding: Finding, formula: Formula, estimate: Estimate, rows: Sequence[Row], *, scores: Scores, alpha: float
) -> Estimate:
    """The estimate with the interval that also covers other examples; where there is none, why.

    Args:
        estimate: over seeds, of those on which no run failed.
        rows: of all reporting runs.
        scores: of the runs that have any.
        alpha: one minus the level of the look's interval.

    Raises:
        InputError: the runs were tested on different examples, or a run's scores contradict its metric.
    """
    if "examples" not in finding.generalises_over or estimate.interval is None:
        return estimate
    cells = {cell: weight if finding.better == "higher" else -weight for cell, weight in formula.weights.items()}
    used = [row for row in rows if _cell(row) in cells and int(row["seed"]) in estimate.seeds]
    if any(row.get("diverged") is True for row in used):
        return replace(estimate, scope=Scope.DIVERGED)
    kind = "accuracy" if finding.metric.endswith("accuracy") else "loss"
    kept = [scores[str(row["id"])] for row in used if scores.get(str(row.get("id")), {}).get("metric") == kind]
    if len(kept) < len(used):
        return replace(estimate, scope=Scope.SOME_KEPT if kept else Scope.NONE_KEPT)
    if len({(record["split"], len(record["values"])) for record in kept}) > 1:
        counts = sorted({len(record["values"]) for record in kept})
        which = f"{' and '.join(map(str, counts))} examples" if len(counts) > 1 else "of equal size"
        raise InputError(
            f"{finding.name}: its runs were tested on different test splits, {which}: arms are compared on the same "
            "examples, so repeat the runs on one version of the data"
        )
    # a constant shifts each seed's mean and no error
    d, sizes = np.zeros((len(estimate.seeds), len(kept[0]["values"]))), kept[0]["sizes"]
    for row, record in zip(used, kept, strict=True):
        d[estimate.seeds.index(int(row["seed"]))] += cells[_cell(row)] * _in_unit(finding, row, record)
    d += (np.asarray(estimate.values) - np.average(d, axis=1, weights=sizes))[:, None]
    examples = d.shape[1]
    if kind == "loss":  # of consecutive windows of a text, of which neighbours are alike
        d, sizes = in_blocks(d, sizes)
    if d.shape[1] < LEAST:
        return replace(estimate, scope=Scope.FEW_EXAMPLES, examples=examples)
    found = two_way(d, sizes, alpha)
    return replace(
        estimate,
        scope=Scope.EXAMPLES,
        examples=examples,
        example_error=found.example_error,
        interval=Interval(found.interval.low, found.interval.high, estimate.interval.level),
        seeds_alone=estimate.interval,
    )


def _in_unit(finding: Finding, row: Row, record: Mapping[str, Any]) -> Array:
    """A run's scores, [examples], in the unit of the finding's metric, of which they are the mean."""
    values = np.asarray(record["values"], dtype=np.float64)
    if finding.metric == "test/bits_per_character":  # nats per token times a constant of the split
        values = values * (row[finding.metric] / row["test/loss"])
    mean, metric = float(np.average(values, weights=record["sizes"])), float(row[finding.metric])
    if abs(mean - metric) > CLOSE * max(1.0, abs(metric)):
        raise InputError(
            f"{finding.name}: run {row['id']} has {finding.metric}={metric:g}, but its scores per example have a mean "
            f"of {mean:g}: one of the two is of another run"
        )
    return values


def _cell(row: Row) -> Cell:
    return Cell(row["arm"], row["condition"])
