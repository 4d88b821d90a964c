"""Tables that fit the terminal: the columns that matter least are cut, and only then are cells wrapped."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 2  # spaces between columns
LEAST = 12  # characters to which a cell that wraps may shrink


@dataclass(frozen=True)
class Column:
    """A column of a table.

    cut    0: it always stays; otherwise the column with the highest number is cut first
    wraps  may its cells take several lines, where cutting is not enough?
    """

    title: str
    cut: int = 0
    wraps: bool = False
    right: bool = False


@dataclass(frozen=True)
class Fitted:
    """A table that fits, and the titles of the columns that were cut for it."""

    table: Table
    cut: list[str]


def width_of(console: Console) -> int | None:
    """Characters in a line; None in a pipe, where nothing is cut.

    COLUMNS doesn't count there: GNU readline sets it for all processes that an interactive Python starts.
    """
    return console.width if console.is_terminal else None


def fitted(columns: Sequence[Column], rows: Sequence[Sequence[str | Text]], width: int | None) -> Fitted:
    """A table of at most `width` characters a line.

    Args:
        rows: one cell a column; a cell that is a `str` is shown as it is, without markup.
        width: None: as wide as it is.
    """
    cells = [[Text(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]
    natural = [max(cell_len(c.title), *(row[i].cell_len for row in cells), 0) for i, c in enumerate(columns)]
    shown = [i for i, wide in enumerate(natural) if wide]  # an empty column without a title is no column
    while width is not None and _least(columns, natural, shown) > width:
        spare = [i for i in shown if columns[i].cut]
        if not spare:
            break
        shown.remove(max(spare, key=lambda i: columns[i].cut))
    widths = _widths(columns, natural, shown, width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    table.show_header = any(columns[i].title for i in shown)
    for i in shown:
        table.add_column(
            columns[i].title,
            justify="right" if columns[i].right else "left",
            width=widths[i],
            overflow="fold",
            no_wrap=widths[i] >= natural[i],
        )
    for row in cells:
        table.add_row(*(row[i] for i in shown))
    table.width = sum(widths.values()) + GAP * (len(shown) - 1) if shown else None
    return Fitted(table, [c.title for i, c in enumerate(columns) if natural[i] and i not in shown])


def show(console: Console, columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> list[str]:
    """Print a table that fits the console, and return the titles of the columns that were cut for it."""
    width = width_of(console)
    made = fitted(columns, rows, width)
    if width is None:  # rich takes a pipe for 80 characters wide
        console = Console(file=console.file, width=max(console.width, made.table.width or 0))
    console.print(made.table, highlight=False)
    return made.cut


def wrapped(text: str, width: int) -> str:
    """A command's description at that width: its paragraphs are filled again; indented and aligned lines stay."""
    return "\n\n".join(_paragraph(each, width) for each in text.strip("\n").split("\n\n"))


def _paragraph(text: str, width: int) -> str:
    lines = text.split("\n")
    if any(line.startswith(" ") or "   " in line for line in lines):
        return text
    return textwrap.fill(" ".join(lines), width, break_long_words=False, break_on_hyphens=False)


def _least(columns: Sequence[Column], natural: Sequence[int], shown: Sequence[int]) -> int:
    """Characters that the columns need if those that wrap are at their narrowest."""
    narrow = [min(natural[i], LEAST) if columns[i].wraps else natural[i] for i in shown]
    return sum(narrow) + GAP * (len(shown) - 1)


def _widths(
    columns: Sequence[Column], natural: Sequence[int], shown: Sequence[int], width: int | None
) -> dict[int, int]:
    """The widest of the columns that wrap give way; where that is not enough, the widest of all."""
    widths = {i: natural[i] for i in shown}
    while width is not None and sum(widths.values()) + GAP * (len(shown) - 1) > width:
        soft = [i for i in shown if columns[i].wraps and widths[i] > LEAST]
        i = max(soft or shown, key=lambda i: widths[i])
        if widths[i] <= 1:
            break
        widths[i] -= 1
    return widths
