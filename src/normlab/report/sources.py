"""The folders of studies as a report reads them: what can't be read is said, and the rest is shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.verdict import ArmSummary, Estimate, Row, Verdict
from normlab.folder.jsonfile import read_json
from normlab.folder.study_folder import StudyFolder
from normlab.stats.paired import Interval
from normlab.study.planned import Stage, read_progress

SCALES = ("smoke", "quick", "full", "paper")  # by what they spend; a smoke study's verdicts mean nothing


@dataclass(frozen=True)
class Source:
    """One folder: a study at a scale.

    own       the user's; else of the committed reference
    verdicts  finding → what the study said of it
    rows      one per finding and run
    curves    of the reporting runs
    manifest  command, commit, machine, versions; empty if there is none
    progress  finding without a verdict → how far its stages are, as far as that is known
    problems  what could not be read, in words
    """

    folder: Path
    own: bool
    verdicts: dict[str, Verdict]
    rows: list[dict[str, Any]]
    curves: list[dict[str, Any]]
    manifest: dict[str, Any]
    progress: dict[str, list[Stage]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """`your study textbook-quick`, `the reference quick`."""
        return f"{'your study' if self.own else 'the reference'} {self.folder.name}"

    @property
    def scale(self) -> str:
        """By its verdicts, else by the folder's name."""
        named = {verdict.scale for verdict in self.verdicts.values()}
        return next(iter(named)) if len(named) == 1 else self.folder.name.rpartition("-")[2]

    @property
    def findings(self) -> list[str]:
        """Names of those it has anything of, in the order of its table."""
        return list(dict.fromkeys([*(row["finding"] for row in self.rows), *self.verdicts]))


@dataclass(frozen=True)
class Look:
    """What one study has of one finding.

    verdict  None: it has not come that far
    tuned    rows of the first stage
    rows     of the reporting runs
    changed  the finding's rule is another now
    """

    source: Source
    verdict: Verdict | None
    tuned: list[Row]
    rows: list[Row]
    curves: list[Row]
    changed: bool = False

    @property
    def seeds(self) -> int:
        """That the reporting runs have."""
        return len({row["seed"] for row in self.rows})


def read_sources(folders: Iterable[Path], *, own: bool) -> list[Source]:
    """The studies in these folders; a folder without any of its files is none."""
    return [read_source(folder, own=own) for folder in folders if holds_study(folder)]


def holds_study(folder: Path) -> bool:
    """Is there anything of a study in it?"""
    return StudyFolder(folder).holds_study()


def read_source(folder: Path, *, own: bool) -> Source:
    """A study's folder; every file that is missing or damaged is a problem in words."""
    problems: list[str] = []
    study = StudyFolder(folder)
    rows: list[dict[str, Any]] = []
    planned = read_progress(folder) if own else {}
    if study.runs_file.exists():
        try:
            rows = study.read_runs()
        except InputError as error:
            problems.append(f"{error}. Its runs are left out.")
    elif not planned:
        problems.append(f"{folder} has no runs.csv: only its verdicts can be shown.")
    curves, problem = study.read_curves()
    problems += [problem] if problem else []
    verdicts = {}
    if study.verdicts_file.exists():
        verdicts = _verdicts(study.verdicts_file, problems)
    elif not planned:
        problems.append(f"{folder} has no verdicts.json yet: the study has not come so far.")
    manifest = study.read_manifest()
    if verdicts and not manifest:
        problems.append(f"{study.manifest_file} is missing or damaged: what made these tables is not known.")
    begun: dict[str, list[Stage]] = {row["finding"]: [] for row in rows if own}
    progress = {name: stages for name, stages in (begun | planned).items() if name not in verdicts}
    return Source(folder, own, verdicts, rows, curves, manifest, progress, problems)


def look_of(finding: Finding, sources: Sequence[Source]) -> Look | None:
    """The best that these studies have of a finding: with a verdict, of the largest scale, the newest."""
    with_any = [source for source in sources if finding.name in source.findings]
    if not with_any:
        return None
    best = max(with_any, key=lambda source: _rank(source, finding.name))
    rows = [row for row in best.rows if row["finding"] == finding.name]
    rule = best.manifest.get("rules", {}).get(finding.name)
    known = set(finding.cells)
    return Look(
        source=best,
        verdict=best.verdicts.get(finding.name),
        tuned=[row for row in rows if row["stage"] == "tune" and cell_of(row) in known],
        rows=[row for row in rows if row["stage"] == "report" and cell_of(row) in known],
        curves=[row for row in best.curves if row["finding"] == finding.name],
        changed=rule is not None and rule != finding.rule_hash,
    )


def cell_of(row: Row) -> Cell:
    """The cell that a row of a table belongs to."""
    return Cell(row["arm"], row["condition"])


def _rank(source: Source, name: str) -> tuple[bool, int, bool, str]:
    verdict = source.verdicts.get(name)
    scale = verdict.scale if verdict else source.scale
    size = SCALES.index(scale) if scale in SCALES else 0
    return size > 0, size, verdict is not None, str(source.manifest.get("time", ""))


def _verdicts(path: Path, problems: list[str]) -> dict[str, Verdict]:
    values = read_json(path)
    if not values:
        problems.append(f"{path} is damaged: it is no JSON. The same command as before writes it anew.")
    found = {}
    for number, entry in enumerate(values.get("verdicts", []), 1):
        try:
            verdict = _verdict(entry)
        except (TypeError, KeyError, ValueError, AttributeError):
            name = entry.get("finding", f"number {number}") if isinstance(entry, dict) else f"number {number}"
            problems.append(f"{path}: the verdict of {name} is damaged or of another version, and left out.")
            continue
        found[verdict.finding] = verdict
    return found


def _verdict(values: Mapping[str, Any]) -> Verdict:
    known = {name: values[name] for name in _names(Verdict) if name in values}
    lists = {
        "estimates": [_estimate(entry) for entry in values["estimates"]],
        "also": [_estimate(entry) for entry in values["also"]],
        "arms": [ArmSummary(**{k: v for k, v in arm.items() if k in _names(ArmSummary)}) for arm in values["arms"]],
    }
    verdict = Verdict(**{**known, **lists})
    if verdict.state not in ("supported", "contradicted", "undecided", "estimate"):
        raise ValueError(verdict.state)
    return verdict


def _estimate(values: Mapping[str, Any]) -> Estimate:
    known = {name: values[name] for name in _names(Estimate) if name in values}
    intervals = {name: Interval(**{k: float(v) for k, v in values[name].items()}) for name in ("interval", "bootstrap")}
    if not all(math.isfinite(float(value)) for value in (values["mean"], *values["values"])):
        raise ValueError(values["mean"])
    return Estimate(**{**known, **intervals})


def _names(kind: type) -> list[str]:
    return [f.name for f in fields(kind)]
