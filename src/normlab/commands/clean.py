"""Remove failed, stale and damaged runs.

Lists them and asks. Without a terminal to ask on, it removes only failed runs, which have no result and can't be
resumed; --yes removes stale and damaged ones too. Runs that are finished, running or resumable are never removed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from normlab.commands.parser import Parser
from normlab.config.errors import one_line
from normlab.folder.run_folder import runs_folder
from normlab.runs.clean import Leftover, find_leftovers, remove, sweep_out

LISTED = 20  # runs of each kind that are listed; the rest are counted


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and remove the runs."""
    parser = Parser("clean", __doc__)
    parser.add_runs()
    parser.add_argument("--yes", action="store_true", help="remove without asking")
    asked = parser.parse_args(arguments)
    clean(asked.runs, asked.yes)


def clean(output: Path, yes: bool) -> None:
    sweep_out(output)
    found = list(find_leftovers(output))
    if not found:
        print(f"nothing to remove in {runs_folder(output)}")
        return
    for kind in ("failed", "stale", "damaged"):
        show(kind, [leftover for leftover in found if leftover.kind == kind])
    going = found
    if not yes and sys.stdin.isatty():
        going = found if agreed(f"Remove {counted(found)}? [y/N] ") else []
    elif not yes:
        going = [leftover for leftover in found if leftover.kind == "failed"]
    removed = remove(output, going)
    print(f"removed {counted(removed)}")
    if not yes and len(going) < len(found):
        kept = [leftover for leftover in found if leftover not in going]
        print(f"kept {counted(kept)}: --yes removes them (make clean YES=1)")


def agreed(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:  # Ctrl-D
        return False


def show(kind: str, leftovers: list[Leftover]) -> None:
    if not leftovers:
        return
    print(f"{kind}: {counted(leftovers)}")
    for leftover in leftovers[:LISTED]:
        why = (leftover.why.splitlines() or [""])[0][:100]
        print(one_line(f"  {size(leftover.size):>9}  {leftover.folder.name}  {why}"))
    if len(leftovers) > LISTED:
        print(f"  … and {len(leftovers) - LISTED} more")


def counted(leftovers: list[Leftover]) -> str:
    plural = "s" if len(leftovers) != 1 else ""
    return f"{len(leftovers)} run{plural}, {size(sum(leftover.size for leftover in leftovers))}"


def size(count: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    power = min((len(str(int(count))) - 1) // 3, len(units) - 1)
    return f"{count / 1000**power:.{min(power, 1)}f} {units[power]}"
