"""The report: a self-contained page, its figures and its tables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from normlab.advice.matrix import Answer, Matrix, matrix_of
from normlab.advice.questions import FEW, KEYS, MANY
from normlab.charts.column import columns_of
from normlab.charts.drawn import draw_all
from normlab.charts.figure import Chart, Shared, drawing
from normlab.charts.forest import forest
from normlab.config.schema import InputError
from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.finding import Finding
from normlab.findings.read import read_finding
from normlab.findings.verdict import Verdict
from normlab.folder.altered import altered_members
from normlab.folder.study_folder import studies_below
from normlab.report.latex import write_tables
from normlab.report.page import write_page
from normlab.results.sources import Source, StudyResult, read_sources, result_of
from normlab.statements.table import page_rows
from normlab.study.planned import Stage, planned_findings
from normlab.study.reference import reference_rates
from normlab.study.scale import read_list

STUDIES = ("textbook", "beyond", "paper")  # in the order of the page
RELEASED = "2026-11-23"  # date of this version; CITATION.cff has it too, as a test checks
MOST_BYTES = 2_000_000  # of the page


@dataclass
class Section:
    """The page's section on one finding.

    results     the one it is about, then the one to compare with: your study before the reference
    progress  of the user's studies that have planned it and have no verdict yet
    ours      its file is in our folder of findings
    charts    with their pictures, for the page
    """

    finding: Finding
    results: list[StudyResult]
    progress: list[tuple[Source, list[Stage]]]
    ours: bool
    charts: list[Chart] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict | None:
        """The result that the section is about."""
        return self.results[0].verdict if self.results else None


@dataclass(frozen=True)
class Report:
    """Everything that a page shows.

    problems  what could not be read, in words
    """

    own: list[Source]
    reference: list[Source]
    sections: list[Section]
    matrix: Matrix
    problems: list[str]


def own_studies(output: Path) -> list[Path]:
    """Folders of the user's studies, by name."""
    return [study.folder for study in studies_below(output) if study.holds_study()]


def gather(own: Sequence[Path], conf: Path = CONF, reference: Path = REFERENCE) -> Report:
    """Read the user's studies and the committed ones.

    Args:
        own: folders of studies.
        conf: folder that holds `finding` and `study`.
        reference: folder of committed studies, with tuning.csv.
    """
    problems = altered_members(reference)
    mine = read_sources(own, own=True)
    committed = read_sources(sorted(path for path in reference.glob("*") if path.is_dir()), own=False)
    for source in [*mine, *committed]:
        problems += source.problems
    ours = _findings(conf, problems)
    findings = [*_users_own(mine, {finding.name for finding in ours}, problems), *ours]
    known = {finding.name for finding in findings}
    for source in [*mine, *committed]:
        problems += [
            f"{source.folder} contains {name}, which has no file in conf/finding; it is left out."
            for name in dict.fromkeys([*source.findings, *source.progress])
            if name not in known
        ]
    sections = []
    for finding in findings:
        results = [result for sources in (mine, committed) if (result := result_of(finding, sources)) is not None]
        progress = [(source, source.progress[finding.name]) for source in mine if finding.name in source.progress]
        sections.append(Section(finding, results, progress, finding in ours))
        problems += [
            f"conf/finding/{finding.name}.yaml now has a different rule from the one "
            f"that {result.source.name} was judged by."
            for result in results
            if result.changed
        ]
    results_of = {section.finding.name: section.results for section in sections}
    return Report(mine, committed, sections, matrix_of(findings, results_of), problems)


def build(
    output: Path,
    own: Sequence[Path],
    conf: Path = CONF,
    reference: Path = REFERENCE,
    *,
    papers: bool = False,
    tell: Callable[[str, int, int], None] = lambda *_: None,
) -> tuple[Path, list[str]]:
    """Write `index.html` into `output`; returns its path, and problems with the files that were read.

    Args:
        papers: `figures` and `tables` too; PDFs take longer than all else.
        tell: called before each step with what it does, the steps done and their number.

    Raises:
        OSError: the folder can't be written.
    """
    tell("reading the studies", 0, 1)
    report = gather(own, conf, reference)
    figures, tables = output / "figures", output / "tables"
    for folder in (output, *((figures, tables) if papers else ())):
        folder.mkdir(parents=True, exist_ok=True)
    committed = _tuning(reference, report.problems)
    shared = Shared()
    shown = [section for section in report.sections if section.results]
    drawable = [(section.finding, section.results) for section in shown]
    drawn = draw_all(drawable, committed, figures if papers else None, tell)
    for section, charts in zip(shown, drawn, strict=True):
        section.charts, section.pictures = charts, [chart.picture(shared) for chart in charts]
    if papers:
        tell("drawing figures for a single column", 0, 1)
        with drawing():
            printed = columns_of([(s.finding, s.verdict) for s in report.sections])
            for each in printed:
                each.render(figures)
        write_tables(tables, [(s.finding, s.verdict) for s in report.sections if s.verdict is not None])
        made = {chart.name for chart in printed} | {c.name for section in report.sections for c in section.charts}
        for old in figures.iterdir():  # files of an earlier report that this one doesn't have
            if old.suffix in (".svg", ".pdf") and old.stem not in made:
                old.unlink()
    page = output / "index.html"
    tell("writing the page", 0, 1)
    write_page(page, {**_context(report, page), "classes": shared.classes})
    return page, report.problems


def bibtex() -> str:
    """How to cite the version that wrote the page; CITATION.cff says the same."""
    return (
        "@software{normlab,\n"
        "  author  = {{The normlab developers}},\n"
        "  title   = {normlab: which normalisation should a network use, and why},\n"
        f"  version = {{{version('normlab')}}},\n"
        f"  year    = {{{RELEASED[:4]}}},\n"
        f"  month   = {{{int(RELEASED[5:7])}}},\n"
        f"  date    = {{{RELEASED}}}\n"
        "}"
    )


def _context(report: Report, page: Path) -> dict[str, Any]:
    return {
        "report": report,
        "stated": page_rows(CONF, [(section.finding, section.verdict) for section in report.sections]),
        "forest": forest((section.finding, section.verdict) for section in report.sections),
        "answer": lambda when, model: report.matrix.get((when, model), Answer()),
        "questions": json.dumps({"few": FEW, "many": MANY, "keys": KEYS}),
        "bibtex": bibtex(),
        "link": lambda path: Path(os.path.relpath(path, page.parent)).as_posix(),
    }


def _findings(conf: Path, problems: list[str]) -> list[Finding]:
    """Every readable finding, in the order of the studies."""
    found = {}
    for path in sorted((conf / "finding").glob("*.yaml")):
        try:
            found[path.stem] = read_finding(path)
        except InputError as error:
            problems.append(f"{error}. The finding is left out.")
    order: list[str] = []
    for name in STUDIES:
        if (conf / "study" / f"{name}.yaml").exists():
            try:
                order += read_list(conf, name).findings
            except InputError as error:
                problems.append(f"{error}. Its order is not kept.")
    names = dict.fromkeys([*(name for name in order if name in found), *found])
    return [found[name] for name in names]


def _users_own(sources: Sequence[Source], ours: set[str], problems: list[str]) -> list[Finding]:
    """Findings without a file in our folder, from the plans of the user's studies."""
    planned: dict[str, Finding] = {}
    for source in sources:
        planned |= planned_findings(source.folder, problems)
    wanted = {name for source in sources for name in (*source.findings, *source.progress)}
    return [finding for name, finding in planned.items() if name in wanted - ours]


def _tuning(reference: Path, problems: list[str]) -> list[dict[str, Any]]:
    try:
        return [dict(row) for row in reference_rates(reference)]
    except InputError as error:
        problems.append(f"{error}. The reference's tuning is left out.")
        return []
