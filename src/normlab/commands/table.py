"""All runs in one table.

One row per run, one column per option (`optim.lr`) or result (`validation/loss`). Results whose code has changed since
are left out unless --stale asks for them; several torch versions are refused unless --mixed allows them.

    normlab table --where 'norm == "layer" and `optim.lr` < 0.01' --sort seed
    normlab table --columns "norm,seed,validation/*" --output results.csv
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from normlab.command_line import columns
from normlab.commands.parser import Parser, count
from normlab.config.errors import one_line
from normlab.config.metrics import MAIN
from normlab.tables import runs as table

if TYPE_CHECKING:
    from pandas import DataFrame

ROWS = 40


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and print or write the table."""
    parser = Parser("table", __doc__)
    parser.add_runs()
    parser.add_argument("--where", metavar="CONDITION", help="which runs, in pandas' query syntax")
    parser.add_argument(
        "--columns", metavar="NAMES", help="which columns, comma-separated; patterns are allowed: seed,validation/*"
    )
    parser.add_argument("--sort", metavar="NAMES", help="columns to sort by")
    parser.add_argument("--descending", action="store_true", help="sort in descending order")
    parser.add_argument(
        "--stale", action="store_true", help="include results whose code has changed since (column state)"
    )
    parser.add_argument("--all", action="store_true", help="include runs without a result (columns state and cause)")
    parser.add_argument(
        "--mixed", action="store_true", help="allow runs made with different torch versions (column torch)"
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help=f"write {', '.join(table.FORMATS)} instead")
    parser.add_argument(
        "--rows", type=count, default=ROWS, help=f"number of rows to print, 0 for all (default: {ROWS})"
    )
    asked = parser.parse_args(arguments)
    show(asked)


def show(asked: argparse.Namespace) -> None:
    frame = table.read_runs(asked.runs, asked.where, stale=asked.stale, unfinished=asked.all, mixed=asked.mixed)
    if asked.sort:
        frame = table.order(frame, asked.sort.split(","), asked.descending)
    if asked.columns:
        frame = table.choose(frame, asked.columns.split(","))
    if asked.output:
        table.write(frame, asked.output)
        print(f"{asked.output}: {len(frame):,} rows, {len(frame.columns)} columns")
        return
    shown = frame if asked.columns else table.differing(frame)
    cut = printed(shown.head(asked.rows) if asked.rows else shown)
    if asked.rows and len(frame) > asked.rows:
        print(f"… and {len(frame) - asked.rows:,} more: use --rows 0 or --output FILE", file=sys.stderr)
    if cut:
        print(f"{len(cut)} columns cut to fit the terminal, such as {', '.join(cut[:3])}", file=sys.stderr)
    if not asked.columns:
        print(
            f"{len(frame.columns)} columns; only those whose values differ are shown: use --columns or --output FILE",
            file=sys.stderr,
        )


def printed(frame: DataFrame) -> list[str]:
    """Print it: Markdown in a pipe, on a terminal as many columns as fit. Returns the names of those that don't."""
    console = Console()
    if columns.width_of(console) is None:
        print(table.markdown(frame))
        return []
    values = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    shown = [columns.Column(name, cut=_rank(name, place)) for place, name in enumerate(frame.columns)]
    return columns.show(console, shown, [[_cell(value) for value in row] for row in values])


def _rank(name: str, place: int) -> int:
    """Which columns are cut first: options, then other results; the norm and the score stay longest."""
    if name == "id":
        return 0
    if name in ("norm", "seed", *(f"{split}/{metric}" for split in ("test", "validation") for metric in MAIN)):
        return 1 + place
    return (2_000 if name.startswith(("norm.", "model.", "task.", "trainer.", "measure.")) else 1_000) + place


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return one_line(str(value))
