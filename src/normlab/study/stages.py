"""The two stages of a finding, as runs: tune every cell on validation, then report on seeds that tuning never saw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from normlab.findings.estimates import has_failed
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.tuning import TuningScores
from normlab.findings.verdict import Row
from normlab.folder.example_scores import read_example_scores
from normlab.folder.run_folder import RunFolder
from normlab.study.scale import FIRST_TUNING_SEED, Scale
from normlab.sweep.paused import at_pause
from normlab.sweep.plan import Job, Outcome

_AXES = ("step", "train/examples", "train/seconds")  # possible horizontal axes of a curve


@dataclass(frozen=True)
class Trial:
    """A run that a stage needs.

    choices  all overrides, the seed included
    key      names the cell independently of the finding: its overrides without point and seed
    pause    the share of its steps after which the run pauses; None: it goes to its end
    """

    finding: str
    stage: str  # tune or report
    cell: Cell
    key: str
    point: float | None
    seed: int
    choices: list[str]
    pause: float | None = None


def tuning_trials(
    finding: Finding,
    scale: Scale,
    points: Mapping[Cell, Sequence[float]],
    seeds: Iterable[int],
    user: Sequence[str],
) -> list[Trial]:
    """Every cell that is tuned at its points with every one of the tuning seeds, counted from 0."""
    return [
        _trial(finding, scale, cell, stage="tune", point=point, seed=FIRST_TUNING_SEED + seed, user=user)
        for seed in seeds
        for cell in tuned_cells(finding)
        for point in points[cell]
    ]


def tuned_cells(finding: Finding) -> list[Cell]:
    """The cells that are tuned: all, or each arm under one condition."""
    return list(dict.fromkeys(finding.tuned_at(cell) for cell in finding.cells))


def reporting_trials(
    finding: Finding,
    scale: Scale,
    points: Mapping[Cell, float | None],
    user: Sequence[str],
    *,
    look: int | None = None,
) -> list[Trial]:
    """Every cell at its point with every reporting seed, ordered by seed, so that a study stopped early has pairs.

    `look`: with that many seeds; None: up to the last look.
    """
    return [
        _trial(finding, scale, cell, stage="report", point=points[cell], seed=seed, user=user)
        for seed in scale.reporting(finding)[:look]
        for cell in finding.cells
    ]


def key_of(finding: Finding, cell: Cell, scale: Scale) -> str:
    """The key of a cell in the committed table of learning rates."""
    return " ".join(sorted(merged(finding.choices(cell, scale.name))))


def merged(*groups: Sequence[str]) -> list[str]:
    """All overrides; if an option is set twice, the last one counts."""
    last = {choice.partition("=")[0].lstrip("+"): choice for group in groups for choice in group}
    return list(last.values())


def _trial(
    finding: Finding, scale: Scale, cell: Cell, *, stage: str, point: float | None, seed: int, user: Sequence[str]
) -> Trial:
    tuned = [f"{finding.tune.option}={point:g}"] if finding.tune is not None and point is not None else []
    extra = finding.report if stage == "report" else []
    choices = merged(scale.overrides, finding.choices(cell, scale.name), tuned, extra, user)
    return Trial(
        finding=finding.name,
        stage=stage,
        cell=cell,
        key=key_of(finding, cell, scale),
        point=point,
        seed=seed,
        choices=[*choices, f"seed={seed}"],
    )


def score_records(finding: Finding, jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """What the jobs scored on each example, as recorded; none if the finding is about its test's examples alone."""
    if "examples" not in finding.generalises_over:
        return {}
    found = {job.id: read_example_scores(RunFolder(job.folder).example_scores_file) for job in jobs}
    return {run: record for run, record in found.items() if record}


def rows_of(
    trials: Sequence[Trial], jobs: Sequence[Job], outcomes: Mapping[int, Outcome], keep: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """One row for each trial that has a result, or has paused: that row has the steps and values up to the pause.

    Args:
        jobs: of the trials, in their order.
        keep: columns of the summary; None: all numeric ones.
    """
    rows = []
    for trial, job in zip(trials, jobs, strict=True):
        outcome = outcomes[job.number]
        if not outcome.is_result:
            continue
        summary = at_pause(job, trial.pause, keep or []) or RunFolder(job.folder).read_summary()
        values = {
            name: value
            for name, value in summary.items()
            if isinstance(value, bool | int | float) and (keep is None or name in keep)
        }
        row = {
            "finding": trial.finding,
            "stage": trial.stage,
            "arm": trial.cell.arm,
            "condition": trial.cell.condition,
            "cell": trial.key,
            "point": trial.point,
            "seed": trial.seed,
            "id": job.id,
            "outcome": summary.get("outcome") or ("diverged" if summary.get("diverged") else "finished"),
            "diverged": bool(summary.get("diverged", False)),
        }
        rows.append({**values, **row})
    return rows


def rates_of(rows: Sequence[Row], finding: Finding, key: str) -> list[Row]:
    """A cell's rows in a table of tuning runs: the finding's own, or those of another finding with the same cell."""
    same = [row for row in rows if row["cell"] == key]
    return [row for row in same if row["finding"] == finding.name] or same


def training_curves(trials: Sequence[Trial], jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """Every validation of the trials' runs: step, examples, seconds and metrics."""
    rows = []
    for trial, job in zip(trials, jobs, strict=True):
        for values in RunFolder(job.folder).read_rows().rows:
            shown = {k: v for k, v in values.items() if k.startswith("validation/") or k in _AXES}
            if any(k.startswith("validation/") for k in shown):
                where = {"finding": trial.finding, "arm": trial.cell.arm, "condition": trial.cell.condition}
                rows.append({**where, "seed": trial.seed, "id": job.id, **shown})
    return rows


def scores_of(finding: Finding, rows: Sequence[Row]) -> TuningScores:
    """A cell's scores at each point; a run that diverged gets the worst possible one, and one that paused none."""
    assert finding.tune is not None
    scores: dict[float, list[float]] = {}
    sound, ended = set[float](), set[float]()
    worst = -math.inf if finding.tune.best == "max" else math.inf
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        point, value = float(row["point"]), row.get(finding.tune.by)
        if row.get("outcome") == "paused":
            ended.add(point)
            continue
        usable = row.get("diverged") is not True and isinstance(value, int | float) and math.isfinite(value)
        scores.setdefault(point, []).append(float(value) if usable and value is not None else worst)
        if usable and not has_failed(finding, row, finding.tune.by):
            sound.add(point)
    return TuningScores(scores, finding.tune.best, frozenset(scores) - sound, frozenset(ended) - set(scores))
