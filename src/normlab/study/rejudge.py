"""Recompute the verdicts of a study from its table and the findings' files alone."""

from __future__ import annotations

import json
import math
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
from normlab.findings.stored import stored
from normlab.findings.verdict import Reason, Row, Verdict
from normlab.folder.study_folder import StudyFolder
from normlab.study.example_scores import decoded
from normlab.study.planned import finding_of
from normlab.study.reference import reference_rates
from normlab.study.stages import rates_of, scores_of

CLOSE = 1e-6  # relative; the digits of a CSV file allow no more
HISTORY = ("first",)  # of a verdict, which the table doesn't know


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
    scores = decoded(study.read_example_scores())
    return [replace(each, scores=scores, recorded=recorded.get(each.finding.name, {})) for each in found]


def rejudge(folder: Path, conf: Path = CONF, reference: Path = REFERENCE) -> list[Verdict]:
    """Recompute every verdict of a study's folder. For arguments and `Raises` see `read_evidence`."""
    scales = {v["finding"]: v["scale"] for v in _recorded(folder)}
    return [e.judged(scales.get(e.finding.name, "")) for e in read_evidence(folder, conf, reference)]


def differences(folder: Path, verdicts: Sequence[Verdict]) -> list[str]:
    """How a study's verdicts.json differs from these verdicts, in words; empty if it doesn't."""
    now = {v.finding: _flat(json.loads(json.dumps(_kept(stored(v))))) for v in verdicts}
    was = {v["finding"]: _flat(_kept(v)) for v in _recorded(folder)}
    lines = [f"{name}: has no verdict in verdicts.json" for name in now if name not in was]
    lines += [f"{name}: has no runs in runs.csv" for name in was if name not in now]
    for name in [name for name in was if name in now]:
        for key in {**was[name], **now[name]}:
            before, after = was[name].get(key), now[name].get(key)
            if not _equal(before, after):
                lines.append(f"{name}: {key} was {before} and is {after}")
    return lines


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


def _kept(verdict: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in verdict.items() if key not in HISTORY}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """`estimates.0.interval.low` → its value."""
    if isinstance(value, dict):
        items = [(str(key), part) for key, part in value.items()]
    elif isinstance(value, list):
        items = [(str(number), part) for number, part in enumerate(value)]
    else:
        return {prefix: value}
    flat: dict[str, Any] = {}
    for key, part in items:
        flat |= _flat(part, f"{prefix}.{key}" if prefix else key)
    return flat


def _equal(before: Any, after: Any) -> bool:
    if isinstance(before, float) or isinstance(after, float):
        if not (isinstance(before, int | float) and isinstance(after, int | float)):
            return False
        return math.isclose(before, after, rel_tol=CLOSE, abs_tol=1e-12) or (math.isnan(before) and math.isnan(after))
    return bool(before == after)
