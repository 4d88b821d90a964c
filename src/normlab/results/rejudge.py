"""What the verdicts of a study are based on: its table and the findings' files alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.examples import Scores
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.judge import judge, keep_first
from normlab.findings.verdict import Reason, Row, Verdict
from normlab.folder.example_scores import decode_each
from normlab.folder.study_folder import StudyFolder
from normlab.study.planned import finding_of
from normlab.study.reference import reference_rates
from normlab.study.stages import rates_of, scores_of


@dataclass(frozen=True)
class Evidence:
    """What a finding's verdict is based on.

    rows     of its reporting runs
    planned  number of seeds that occur in any of its cells
    scores   run → its score on each test example, for the runs that kept it
    recorded the verdict stored in the folder, which says which looks were planned
    edges    cells whose tuned option was best at an end of the points
    """

    finding: Finding
    rows: list[Row]
    planned: int
    edges: dict[Cell, bool]
    scores: Scores = field(default_factory=dict)
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def judged(self, scale: str) -> Verdict:
        """The verdict by the finding's file; if the planned looks were used up earlier, the verdict of then."""
        verdict = judge(self.finding, self.rows, self.planned, scale, self.edges, looks=self._looks, scores=self.scores)
        first = self.recorded.get("first")
        kept = self.recorded.get("reason") == Reason.KEPT and isinstance(first, dict)
        return keep_first(verdict, first) if kept and first else verdict

    @property
    def _looks(self) -> list[int]:
        looks = self.recorded.get("looks", [])
        return looks if isinstance(looks, list) and all(type(look) is int for look in looks) else []


def read_evidence(folder: Path, conf: Path = CONF, reference: Path = REFERENCE) -> list[Evidence]:
    """Every finding of a study's folder, in the order of its table.

    Args:
        folder: with runs.csv.
        conf: folder that holds `finding`; a finding that isn't there is the user's own, and read from the study's plan.
        reference: folder with tuning.csv, for findings that took their rates from there.

    Raises:
        InputError: the table is missing or one of its files is damaged, it names an unknown finding or cell, or there
            is no record of how a cell was tuned.
    """
    study = StudyFolder(folder)
    if not study.runs_file.exists():
        raise InputError(f"{folder} is not the folder of a study: it has no runs.csv")
    rows = study.read_runs()
    tuned = [row for row in rows if row["stage"] == "tune"]
    committed = reference_rates(reference)
    names = list(dict.fromkeys(row["finding"] for row in rows))
    recorded = {v.get("finding"): v for v in _recorded(folder) if isinstance(v, dict)}
    found = [_evidence(folder, finding_of(folder, name, conf), rows, tuned, committed) for name in names]
    scores = decode_each(study.read_example_scores())
    return [replace(each, scores=scores, recorded=recorded.get(each.finding.name, {})) for each in found]


def _evidence(
    folder: Path, finding: Finding, rows: Sequence[Row], tuned: Sequence[Row], committed: Sequence[Row]
) -> Evidence:
    own = [row for row in rows if row["finding"] == finding.name and row["stage"] == "report"]
    known = set(finding.cells)
    for row in own:
        if Cell(row["arm"], row["condition"]) not in known:
            cell = Cell(row["arm"], row["condition"])
            raise InputError(f"{folder}/runs.csv: {finding.name} has no cell {cell}; its file has changed since")
    edges = {}
    for cell in finding.cells if finding.tune is not None else []:
        edges[cell] = _edge(folder, finding, finding.tuned_at(cell), own=own, tuned=tuned, committed=committed)
    return Evidence(finding, own, len({row["seed"] for row in own}), edges)


def _edge(
    folder: Path, finding: Finding, cell: Cell, *, own: Sequence[Row], tuned: Sequence[Row], committed: Sequence[Row]
) -> bool:
    """Was the cell's best point at an end of the grid, in the study's own tuning or else in the committed one?"""
    here = [row for row in tuned if row["finding"] == finding.name and _is(row, cell)]
    if not here:
        here = [row for key in {r["cell"] for r in own if _is(r, cell)} for row in rates_of(committed, finding, key)]
    if here:
        return scores_of(finding, here).edge != 0
    if not any(_is(row, cell) for row in own):
        return False  # no run at all, as its verdict will say
    raise InputError(
        f"neither {folder}/runs.csv nor the reference's tuning.csv says how {cell} of {finding.name} was tuned"
    )


def _is(row: Row, cell: Cell) -> bool:
    return (row["arm"], row["condition"]) == (cell.arm, cell.condition)


def _recorded(folder: Path) -> list[dict[str, Any]]:
    return StudyFolder(folder).read_verdicts()
