"""What on this machine will fail, and why: python scripts/doctor.py. Exit status 1 if something will."""

from __future__ import annotations

from normlab.stopping.program import begin

begin(__name__)

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.text import Text

from normlab.commands.doctor import Check, examine
from normlab.config.command_line import guard
from normlab.kernels import build

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def main() -> None:
    cache = Path(os.environ.get("NORMLAB_CACHE", ".cache/normlab"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", metavar="FOLDER", type=Path, default=Path("outputs"), help="default: outputs")
    parser.add_argument("--cache", metavar="FOLDER", type=Path, default=cache, help=f"default: {cache}")
    asked = parser.parse_args()
    with guard():
        checks = [show(check) for check in chain(examine(asked.runs, asked.cache), fused_lstm())]
    failed = sum(check.verdict == "fail" for check in checks)
    warned = sum(check.verdict == "warn" for check in checks)
    print(f"{len(checks)} checks: {failed} fail, {warned} warn")
    sys.exit(1 if failed else 0)


def show(check: Check) -> Check:
    line = Text.assemble((f"{check.verdict:5}", COLOURS[check.verdict]), (f"{check.topic:18}", "bold"), check.found)
    Console().print(line.append(f" → {check.advice}" if check.advice else ""), soft_wrap=True)
    return check


def fused_lstm() -> Iterator[Check]:
    """Is the LSTM's time loop compiled, or can it be?"""
    try:
        build.load()
    except build.BuildError as error:
        yield Check("warn", "fused lstm", str(error), "LSTMs take the plain cell, which is slower")
    else:
        yield Check("ok", "fused lstm", build.status().partition(": ")[2])


if __name__ == "__main__":
    main()
