"""The first stage of a finding: successive halving of the points of every cell, and the steps it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.tuning import TuningScores, going_on, kept_of, rounds, widened
from normlab.findings.verdict import Row
from normlab.study.scale import EarlyEnd, Scale
from normlab.study.stages import Trial, scores_of, tuned_cells, tuning_trials

Results = list[dict[str, Any]]
Asked = dict[tuple[Cell, float | None, int], Trial]


@dataclass(frozen=True)
class Runs:
    """How tuning gets its results.

    of        from trials, which include those of earlier rounds, to a row for each that has a result or has paused
    standing  from the trials of a point, and a share of their steps, to what they have reached there, if it is known
    """

    of: Callable[[list[Trial]], Results]
    standing: Callable[[list[Trial], float], float | None]


def expected_trials(finding: Finding, scale: Scale, user: Sequence[str]) -> list[Trial]:
    """All rounds of the grid that tuning begins with.

    Which points go on is not known yet: the middle ones stand for them.
    """
    trials: list[Trial] = []
    grid = scale.grid(finding)
    ends = scale.early_ends_of(finding)
    for number, (count, seeds) in enumerate(rounds(len(grid), scale.rounds_of(finding))):
        points = dict.fromkeys(tuned_cells(finding), _middle(grid, count))
        trials += [
            replace(trial, pause=None if number else _pause(trial.point, grid, ends))
            for trial in tuning_trials(finding, scale, points, seeds, user)
        ]
    return trials


def _pause(point: float | None, grid: Sequence[float], ends: Sequence[EarlyEnd]) -> float | None:
    """Where the run of a point ends, if the middle points are the best."""
    return next((end.at for end in ends if point not in _middle(grid, kept_of(len(grid), end.keep))), None)


def _middle(grid: Sequence[float], count: int) -> Sequence[float]:
    first = (len(grid) - count) // 2
    return grid[first : first + count]


def first_round(finding: Finding, scale: Scale, user: Sequence[str]) -> list[Trial]:
    """Every cell at every point of the grid that tuning begins with."""
    points = dict.fromkeys(tuned_cells(finding), scale.grid(finding))
    return tuning_trials(finding, scale, points, range(scale.rounds_of(finding)[0]), user)


def tune(finding: Finding, scale: Scale, user: Sequence[str], runs: Runs) -> tuple[dict[Cell, TuningScores], Results]:
    """The scores of every cell, and the rows of all tuning runs.

    The runs of the first round pause as the scale says, and of each cell's points only the best go on. The grid is
    widened for all cells where one is best at its end, and halved again from the first round, which repeats no run.
    What is run depends on nothing but earlier results, so that a study that was stopped resumes with the same.

    Raises:
        InputError: a run has no result, without which the choice would be another.
    """
    assert finding.tune is not None
    points: Sequence[float] = scale.grid(finding)
    asked: Asked = {}
    while True:
        kept: Mapping[Cell, Sequence[float]] = dict.fromkeys(tuned_cells(finding), points)
        for end in scale.early_ends_of(finding):
            kept = _pause_at(end, finding, scale, user, runs, asked=asked, points=kept)
        curves: dict[Cell, TuningScores] = {}
        for number, (before, upto) in enumerate(pairwise([0, *scale.rounds_of(finding)])):
            if before:
                whole = kept if number > 1 else dict.fromkeys(kept, points)
                kept = {cell: _halved(curves[cell], scale).better_half(whole[cell], before) for cell in kept}
            new = tuning_trials(finding, scale, kept, range(before, upto), user)
            if not new:
                break
            rows = _run(new, asked, runs)
            curves = {cell: scores_of(finding, [row for row in rows if _is(row, cell)]) for cell in kept}
        added = widened(finding.tune, points, list(curves.values())) if scale.widen else []
        if not added:
            return curves, rows
        points = sorted([*points, *added])


def _pause_at(
    end: EarlyEnd,
    finding: Finding,
    scale: Scale,
    user: Sequence[str],
    runs: Runs,
    *,
    asked: Asked,
    points: Mapping[Cell, Sequence[float]],
) -> dict[Cell, list[float]]:
    """Take the runs of each cell's points to a pause; returns the points that go on."""
    assert finding.tune is not None
    seeds = range(scale.rounds_of(finding)[0])
    trials = [replace(trial, pause=end.at) for trial in tuning_trials(finding, scale, points, seeds, user)]
    _run(trials, asked, runs)
    found: dict[Cell, dict[float, float | None]] = {cell: {} for cell in points}
    for cell, point in dict.fromkeys((trial.cell, trial.point) for trial in trials):
        own = [trial for trial in trials if (trial.cell, trial.point) == (cell, point)]
        found[cell][point or 0.0] = runs.standing(own, end.at)
    return {cell: going_on(reached, finding.tune.best, end.keep) for cell, reached in found.items()}


def _run(trials: Iterable[Trial], asked: Asked, runs: Runs) -> Results:
    """The rows of all trials asked for so far, these included; none is taken less far than before."""
    for trial in trials:
        key = (trial.cell, trial.point, trial.seed)
        if key not in asked or (asked[key].pause or 1.0) < (trial.pause or 1.0):
            asked[key] = trial
    rows = runs.of(list(asked.values()))
    if len(rows) < len(asked):
        raise InputError(f"{len(asked) - len(rows)} tuning runs have no result; the same command repeats them")
    return rows


def steps_words(rows: Iterable[Row]) -> list[str]:
    """What the tuning of each cell has cost: `layer: 9 runs, 11,250 steps`."""
    cells: dict[str, list[int]] = {}
    for row in rows:
        cells.setdefault(str(Cell(row["arm"], row["condition"])), []).append(int(row.get("steps", 0)))
    return [f"{cell}: {len(steps)} runs, {sum(steps):,} steps" for cell, steps in cells.items()]


def _halved(curve: TuningScores, scale: Scale) -> TuningScores:
    """As the scale counts points whose runs failed."""
    return curve if scale.drop_failed else replace(curve, lost=frozenset())


def _is(row: Row, cell: Cell) -> bool:
    return (row["arm"], row["condition"]) == (cell.arm, cell.condition)
