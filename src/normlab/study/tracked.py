"""A study in W&B: a table of its verdicts, and tags on each run for the findings that it serves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError, WandbConfig
from normlab.findings.finding import Finding
from normlab.findings.stored import read_verdicts
from normlab.findings.verdict import Verdict
from normlab.findings.wording import numbers_of
from normlab.folder.study_folder import StudyFolder
from normlab.mirror.upload import add_tags, lacking
from normlab.mirror.wandb_begin import warn
from normlab.mirror.wandb_study import StudyTable, show_study
from normlab.study.serving import read_serving, tags_of


@dataclass(frozen=True)
class FindingSummary:
    """One finding as W&B shows it.

    verdict  supported, contradicted, …; None: it has not been run
    numbers  one line each
    runs     names of its runs
    """

    name: str
    claim: int | None
    title: str
    statement: str
    source: str
    expect: str
    metric: str
    verdict: str | None
    numbers: Sequence[str]
    runs: Sequence[str]


def mirror(folder: Path, findings: Iterable[Finding], options: WandbConfig) -> None:
    """Show a finished study, and tag the runs that it shares with earlier ones. If W&B fails, a warning is printed."""
    output = folder.parents[1]
    if show_study(options, folder, table_of(folder, summarise(findings, folder))):
        try:
            add_tags(lacking(output, read_serving(output)))
        except InputError as error:
            warn(f"{error}; `make sync` tries again")


def summarise(findings: Iterable[Finding], folder: Path | None) -> list[FindingSummary]:
    """The findings, primary ones first, with their results from a study's folder; None: no study."""
    study = StudyFolder(folder) if folder else None
    verdicts = read_verdicts(study.read_judged(), study.verdicts_file, []) if study else {}
    rows = study.read_runs() if study else []
    ordered = sorted(findings, key=lambda f: (not f.primary, f.claim or 99, f.name))
    return [_summary_of(finding, verdicts.get(finding.name), rows) for finding in ordered]


def table_of(folder: Path, summaries: Iterable[FindingSummary]) -> StudyTable:
    """The verdicts of a study's folder as W&B shows them."""
    given = [one for one in summaries if one.verdict]
    return StudyTable(
        name=folder.name,
        columns=["claim", "finding", "title", "verdict", "numbers", "expected"],
        rows=[[one.claim, one.name, one.title, one.verdict, "\n".join(one.numbers), one.expect] for one in given],
        summary={f"verdict/{one.name}": one.verdict for one in given},
        tags=tags_of(one.name for one in given),
        config=StudyFolder(folder).read_manifest(),
    )


def _summary_of(finding: Finding, verdict: Verdict | None, rows: Sequence[dict[str, Any]]) -> FindingSummary:
    runs = sorted({str(row["id"]) for row in rows if row["finding"] == finding.name and "id" in row})
    return FindingSummary(
        name=finding.name,
        claim=finding.claim,
        title=finding.title,
        statement=finding.statement,
        source=finding.source,
        expect=finding.expect,
        metric=finding.metric,
        verdict=verdict.state if verdict else None,
        numbers=numbers_of(verdict, finding) if verdict else [],
        runs=runs,
    )
