"""Reads the folders of studies for a report: files that can't be read are reported, and the rest is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.printable import printable
from normlab.findings.stored import read_verdicts
from normlab.findings.verdict import Row, Verdict
from normlab.folder.study_folder import StudyFolder
from normlab.study.planned import Stage, read_progress

SCALES = ("smoke", "quick", "full", "paper")  # in order of size; a smoke study's verdicts mean nothing


@dataclass(frozen=True)
class Source:
    """One folder: a study at a scale.

    own       it is the user's; otherwise it belongs to the committed reference
    verdicts  finding → verdict
    rows      one per finding and run
    curves    of the reporting runs
    manifest  command, commit, machine, versions; empty if there is none
    progress  finding without a verdict → progress of its stages, as far as known
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
        """The scale, from its verdicts or else from the folder's name."""
        named = {verdict.scale for verdict in self.verdicts.values()}
        return next(iter(named)) if len(named) == 1 else self.folder.name.rpartition("-")[2]

    @property
    def findings(self) -> list[str]:
        """Names of its findings, in the order of its table."""
        return list(dict.fromkeys([*(row["finding"] for row in self.rows), *self.verdicts]))


@dataclass(frozen=True)
class StudyResult:
    """One study's results for one finding.

    verdict  None: not judged yet
    tuned    rows of the first stage
    rows     of the reporting runs
    changed  the finding's rule has changed since
    """

    source: Source
    verdict: Verdict | None
    tuned: list[Row]
    rows: list[Row]
    curves: list[Row]
    changed: bool = False

    @property
    def seeds(self) -> int:
        """Seeds of the reporting runs."""
        return len({row["seed"] for row in self.rows})


def read_sources(folders: Iterable[Path], *, own: bool) -> list[Source]:
    """The studies in these folders; folders without any file of a study are skipped."""
    return [read_source(folder, own=own) for folder in folders if holds_study(folder)]


def holds_study(folder: Path) -> bool:
    """Does it have any file of a study?"""
    return StudyFolder(folder).holds_study()


def read_source(folder: Path, *, own: bool) -> Source:
    """Read a study's folder; missing or damaged files are described in `problems`."""
    problems: list[str] = []
    study = StudyFolder(folder)
    rows: list[dict[str, Any]] = []
    planned = read_progress(folder) if own else {}
    if study.runs_file.exists():
        try:
            rows = printable(study.read_runs())
        except InputError as error:
            problems.append(f"{error}. Its runs are left out.")
    elif not planned:
        problems.append(f"{folder} has no runs.csv: only its verdicts can be shown.")
    curves, problem = study.read_curves()
    problems += [problem] if problem else []
    verdicts = {}
    if study.verdicts_file.exists():
        recorded = study.read_judged()
        if not recorded:
            problems.append(
                f"{study.verdicts_file} is damaged: it is not JSON. Repeating the study's command writes it again."
            )
        verdicts = read_verdicts(recorded, study.verdicts_file, problems)
    elif not planned:
        problems.append(f"{folder} has no verdicts.json yet: the study has not reached its first verdict.")
    problems += _repeated(folder, rows)
    manifest = _manifest(study, problems)
    if verdicts and not manifest:
        problems.append(f"{study.manifest_file} is missing or damaged, so the origin of these tables is unknown.")
    begun: dict[str, list[Stage]] = {row["finding"]: [] for row in rows if own}
    progress = {name: stages for name, stages in (begun | planned).items() if name not in verdicts}
    return Source(
        folder=folder,
        own=own,
        verdicts=verdicts,
        rows=rows,
        curves=curves,
        manifest=manifest,
        progress=progress,
        problems=problems,
    )


def _repeated(folder: Path, rows: Sequence[Row]) -> list[str]:
    """Problems with several runs of one cell and seed, of which any may be the valid one."""
    counts = Counter((row["finding"], row["stage"], str(cell_of(row)), row.get("point"), row["seed"]) for row in rows)
    return [
        f"{folder}/runs.csv: {name} has {count} runs of {cell} with seed {seed} in stage {stage}, and it is "
        "unknown which one is valid."
        for (name, stage, cell, _, seed), count in counts.items()
        if count > 1
    ]


def _manifest(study: StudyFolder, problems: list[str]) -> dict[str, Any]:
    """How the tables were made; entries of a wrong type are left out."""
    values = printable(study.read_manifest())
    kinds = {"machine": dict, "packages": dict, "rules": dict}
    wrong = [name for name, kind in kinds.items() if name in values and not isinstance(values[name], kind)]
    problems += [f"{study.manifest_file}: {name} is damaged and left out." for name in wrong]
    return {name: value for name, value in values.items() if name not in wrong}


def result_of(finding: Finding, sources: Sequence[Source]) -> StudyResult | None:
    """The best result for a finding: one with a verdict, then of the largest scale, then the newest."""
    with_any = [source for source in sources if finding.name in source.findings]
    if not with_any:
        return None
    best = max(with_any, key=lambda source: _rank(source, finding.name))
    rows = [row for row in best.rows if row["finding"] == finding.name]
    rule = best.manifest.get("rules", {}).get(finding.name)
    known = set(finding.cells)
    return StudyResult(
        source=best,
        verdict=best.verdicts.get(finding.name),
        tuned=[row for row in rows if row["stage"] == "tune" and cell_of(row) in known],
        rows=[row for row in rows if row["stage"] == "report" and cell_of(row) in known],
        curves=[row for row in best.curves if row["finding"] == finding.name],
        changed=rule is not None and rule != finding.rule_hash,
    )


def cell_of(row: Row) -> Cell:
    """The cell of a row."""
    return Cell(row["arm"], row["condition"])


def _rank(source: Source, name: str) -> tuple[bool, int, bool, str]:
    verdict = source.verdicts.get(name)
    scale = verdict.scale if verdict else source.scale
    size = SCALES.index(scale) if scale in SCALES else 0
    return size > 0, size, verdict is not None, str(source.manifest.get("time", ""))
