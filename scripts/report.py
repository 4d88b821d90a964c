"""What a study says, from its folder alone: python scripts/report.py --sensitivity [--study FOLDER] [--output FILE]

--sensitivity  would a verdict be another with another margin, or with fewer seeds?

    python scripts/report.py --sensitivity --study outputs/studies/textbook-quick
    python scripts/report.py --sensitivity --output sensitivity.md

Without --study the folder is outputs/studies/textbook-quick, or results/reference/quick if that is not there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from normlab.cli import guard
from normlab.findings.sensitivity import Sheet, by_margin, by_seeds, sensitivity
from normlab.schema import InputError
from normlab.study.engine import REFERENCE
from normlab.study.rejudge import read_evidence

OWN = Path("outputs/studies/textbook-quick")
WIDTH = 170  # columns of a table that goes into a pipe
_COLOURS = {"supported": "green", "contradicted": "red", "undecided": "yellow"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sensitivity", action="store_true", help="how verdicts move with margin and seeds")
    parser.add_argument("--study", metavar="FOLDER", type=Path, help=f"default: {OWN}, else the reference")
    parser.add_argument("--output", metavar="FILE", type=Path, help="write Markdown instead of printing")
    asked = parser.parse_args()
    if not asked.sensitivity:
        parser.error("say what to report: --sensitivity")
    with guard():
        folder = asked.study or (OWN if (OWN / "runs.csv").exists() else REFERENCE / "quick")
        show(f"Sensitivity of {folder}", sheets(folder), asked.output)


def sheets(folder: Path) -> list[Sheet]:
    """The two tables of all primary findings, by claim."""
    primaries = [e for e in read_evidence(folder) if e.finding.primary]
    if not primaries:
        raise InputError(f"{folder} holds no primary finding, and only those have a verdict")
    primaries.sort(key=lambda e: e.finding.claim or 0)
    found = [sensitivity(e.finding, e.rows, e.planned, e.edges) for e in primaries]
    return [by_margin(found), by_seeds(found)]


def show(title: str, tables: Sequence[Sheet], output: Path | None) -> None:
    if output is not None:
        output.write_text(f"# {title}\n\n" + "\n".join(map(markdown, tables)), encoding="utf-8")
        print(output)
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, WIDTH))
    for sheet in tables:
        table = Table(title=f"{sheet.title}. {sheet.note}", title_justify="left", box=None, header_style="bold")
        for name in sheet.header:
            table.add_column(name, overflow="fold")
        for row in sheet.rows:
            table.add_row(*map(coloured, row))
        console.print(table)


def markdown(sheet: Sheet) -> str:
    lines = [sheet.header, ["---"] * len(sheet.header), *sheet.rows]
    table = "\n".join(f"| {' | '.join(row)} |" for row in lines)
    return f"## {sheet.title}\n\n{sheet.note}\n\n{table}\n"


def coloured(cell: str) -> str:
    colour = _COLOURS.get(cell.partition(" ")[0])
    text = cell.replace("[", "\\[")
    return f"[{colour}]{text}[/]" if colour else text


if __name__ == "__main__":
    main()
