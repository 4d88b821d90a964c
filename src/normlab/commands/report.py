"""Write the studies' results as a page, figures and tables.

Reads the studies in outputs/studies and the committed reference, and writes outputs/report/index.html, which opens
from disk. While a study runs, it shows the results so far.

    normlab report
    normlab report --study outputs/studies/textbook-full --output /tmp/report

--papers       writes figures (SVG, PDF) and tables (LaTeX, CSV) too,
               in two to three times the time.
--sensitivity  prints, instead of the page, whether verdicts would change
               with another margin or fewer seeds: those of --study, else of
               outputs/studies/textbook-quick, else of results/reference/quick.

    normlab report --sensitivity --output sensitivity.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text

from normlab.command_line.columns import Column
from normlab.command_line.columns import show as columns_that_fit
from normlab.commands.parser import Parser, new_file
from normlab.config.schema import InputError
from normlab.config.shipped import REFERENCE
from normlab.folder.study_folder import StudyFolder
from normlab.results.rejudge import read_evidence
from normlab.results.sensitivity import Sheet, by_margin, by_seeds, sensitivity

OWN = Path("outputs/studies/textbook-quick")
REPORT = Path("outputs/report")
CUT = {"note": 4, "rule": 3, "finding": 2, "reason": 2, "x 0.25": 1, "x 4": 1}  # columns cut on a narrow terminal
_COLOURS = {"supported": "green", "contradicted": "red", "undecided": "yellow"}


def main(arguments: Sequence[str]) -> None:
    """Read the arguments, and write the report or print the tables."""
    parser = Parser("report", __doc__)
    parser.add_argument(
        "--sensitivity", action="store_true", help="show how verdicts depend on the margin and the number of seeds"
    )
    parser.add_argument("--study", metavar="FOLDER", type=Path, action="append", help="default: all in outputs/studies")
    parser.add_argument(
        "--output", metavar="PATH", type=Path, help=f"folder, default: {REPORT}; a .md of --sensitivity"
    )
    parser.add_argument(
        "--papers", action="store_true", help="write figures (SVG, PDF) and tables (LaTeX, CSV) for papers too"
    )
    asked = parser.parse_args(arguments)
    if not asked.sensitivity:
        page(asked.study, asked.output or REPORT, asked.papers)
        return
    if asked.study and len(asked.study) > 1:
        parser.error("--sensitivity needs exactly one --study")
    own = OWN if StudyFolder(OWN).runs_file.exists() else REFERENCE / "quick"
    folder = asked.study[0] if asked.study else own
    try:
        file = new_file(".md")(str(asked.output)) if asked.output else None
    except argparse.ArgumentTypeError as error:
        parser.error(f"argument --output: {error}")
    show(f"Sensitivity of {folder}", sheets(folder), file)


def page(studies: Sequence[Path] | None, output: Path, papers: bool) -> None:
    """Write the report, and print where it is and what could not be read."""
    from normlab.report.build import build, own_studies
    from normlab.results.sources import holds_study

    for folder in studies or []:
        if not holds_study(folder):
            raise InputError(f"{folder} is not the folder of a study: it has no runs.csv")
    with told() as tell:
        written, problems = build(output, studies or own_studies(Path("outputs")), papers=papers, tell=tell)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{written}: {written.stat().st_size / 1e6:.1f} MB")
    if papers:
        print(f"figures and tables for papers: {output / 'figures'}, {output / 'tables'}")
    elif (output / "figures").exists():
        print(f"{output / 'figures'} and {output / 'tables'} are of an earlier report; --papers updates them")
    else:
        print("figures and tables for papers: the same command with --papers")


@contextmanager
def told() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal, and in a pipe a line for each kind of work."""
    console, kinds = Console(stderr=True), set[str]()
    bar = Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), console=console, transient=True)
    task = bar.add_task("", total=1)

    def tell(what: str, done: int, of: int) -> None:
        bar.update(task, description=what, completed=done, total=of)
        if not console.is_terminal and what.partition(" ")[0] not in kinds:
            kinds.add(what.partition(" ")[0])
            print(f"{what} …" if of == 1 else f"drawing {of} findings …", file=sys.stderr, flush=True)

    if console.is_terminal:
        bar.start()
    try:
        yield tell
    finally:
        bar.stop()


def sheets(folder: Path) -> list[Sheet]:
    """The two tables of all primary findings, by claim."""
    primaries = [e for e in read_evidence(folder) if e.finding.primary]
    if not primaries:
        raise InputError(f"{folder} has no primary finding, and only primary findings have verdicts")
    primaries.sort(key=lambda e: e.finding.claim or 0)
    found = [sensitivity(e.finding, e.rows, e.planned, e.edges, e.scores) for e in primaries]
    return [by_margin(found), by_seeds(found)]


def show(title: str, tables: Sequence[Sheet], output: Path | None) -> None:
    if output is not None:
        output.write_text(f"# {title}\n\n" + "\n".join(map(markdown, tables)), encoding="utf-8")
        print(output)
        return
    console = Console()
    for sheet in tables:
        console.print(f"{sheet.title}. {sheet.note}", highlight=False, markup=False)
        columns = [Column(name, cut=CUT.get(name, 0), wraps=True) for name in sheet.header]
        cut = columns_that_fit(console, columns, [[coloured(cell) for cell in row] for row in sheet.rows])
        if cut:
            print(f"cut to fit the terminal: {', '.join(cut)}; --output FILE writes all")
        console.print()


def markdown(sheet: Sheet) -> str:
    lines = [sheet.header, ["---"] * len(sheet.header), *sheet.rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in lines)
    return f"## {sheet.title}\n\n{sheet.note}\n\n{table}\n"


def coloured(cell: str) -> Text:
    return Text(cell, _COLOURS.get(cell.partition(" ")[0], ""))
