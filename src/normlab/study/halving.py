"""The first stage of a finding: successive halving of the points of every cell, and the steps it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.tuning import TuningScores, rounds, widened
from normlab.findings.verdict import Row
from normlab.study.scale import Scale
from normlab.study.stages import Trial, scores_of, tuned_cells, tuning_trials

Results = list[dict[str, Any]]


def expected_trials(finding: Finding, scale: Scale, user: Sequence[str]) -> list[Trial]:
    """All rounds of the grid that tuning begins with.

    Which points later rounds have is not known yet: the middle ones stand for them.
    """
    trials: list[Trial] = []
    grid = scale.grid(finding)
    for count, seeds in rounds(len(grid), scale.rounds_of(finding)):
        first = (len(grid) - count) // 2
        points = dict.fromkeys(tuned_cells(finding), grid[first : first + count])
        trials += tuning_trials(finding, scale, points, seeds, user)
    return trials


def first_round(finding: Finding, scale: Scale, user: Sequence[str]) -> list[Trial]:
    """Every cell at every point of the grid that tuning begins with."""
    points = dict.fromkeys(tuned_cells(finding), scale.grid(finding))
    return tuning_trials(finding, scale, points, range(scale.rounds_of(finding)[0]), user)


def tune(
    finding: Finding, scale: Scale, user: Sequence[str], run: Callable[[list[Trial]], Results]
) -> tuple[dict[Cell, TuningScores], Results]:
    """The scores of every cell, and the rows of all tuning runs.

    The grid is widened for all cells where one is best at its end, and halved again from the first round, which repeats
    no run. What is run depends on nothing but earlier results, so that a study that was stopped resumes with the same.

    Args:
        run: from trials, which include those of earlier rounds, to a row for each that has a result.

    Raises:
        InputError: a run has no result, without which the choice would be another.
    """
    assert finding.tune is not None
    points: Sequence[float] = scale.grid(finding)
    asked: dict[tuple[Cell, float | None, int], Trial] = {}
    while True:
        kept: Mapping[Cell, Sequence[float]] = dict.fromkeys(tuned_cells(finding), points)
        curves: dict[Cell, TuningScores] = {}
        for before, upto in pairwise([0, *scale.rounds_of(finding)]):
            if before:
                kept = {cell: _halved(curves[cell], scale).better_half(kept[cell], before) for cell in kept}
            new = tuning_trials(finding, scale, kept, range(before, upto), user)
            if not new:
                break
            asked |= {(trial.cell, trial.point, trial.seed): trial for trial in new}
            rows = run(list(asked.values()))
            if len(rows) < len(asked):
                raise InputError(f"{len(asked) - len(rows)} tuning runs have no result; the same command repeats them")
            curves = {cell: scores_of(finding, [row for row in rows if _is(row, cell)]) for cell in kept}
        added = widened(finding.tune, points, list(curves.values())) if scale.widen else []
        if not added:
            return curves, rows
        points = sorted([*points, *added])


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
