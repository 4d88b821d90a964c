"""List what will fail on this machine, and why. Exit status 1 if something will. Imports no torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.text import Text

from normlab.commands.parser import Parser
from normlab.environment import machine, surroundings
from normlab.environment.check import Check
from normlab.kernels import build

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def main(arguments: Sequence[str]) -> None:
    """Read the arguments and print every check."""
    cache = Path(os.environ.get("NORMLAB_CACHE", ".cache/normlab"))
    parser = Parser("doctor", __doc__)
    parser.add_runs()
    parser.add_argument("--cache", metavar="FOLDER", type=Path, default=cache, help=f"default: {cache}")
    asked = parser.parse_args(arguments)
    checks = [show(check) for check in examine(asked.runs, asked.cache)]
    failed = sum(check.verdict == "fail" for check in checks)
    warned = sum(check.verdict == "warn" for check in checks)
    print(f"{len(checks)} checks: {failed} fail, {warned} warn")
    sys.exit(1 if failed else 0)


def examine(output: Path, cache: Path) -> Iterator[Check]:
    """Every check; a check that crashes counts as failed, without a traceback."""
    yield from _asked("python", machine.python)
    yield from _asked("packages", machine.packages)
    yield from _asked("torch", machine.torch)
    yield from _asked("memory", machine.memory)
    yield from _asked("/dev/shm", machine.shared_memory)
    yield from _asked("git", machine.git)
    yield from _asked("data packs", surroundings.packs)
    yield from _asked("hugging face", surroundings.hub)
    yield from _asked("wandb", surroundings.wandb)
    yield from _asked("loopback", machine.loopback)
    yield from _asked("slurm", machine.slurm)
    yield from _asked("launchers", machine.launchers)
    yield from _asked("compiler", machine.compiler)
    yield from _asked("fused lstm", partial(kernels, "lstm"))
    yield from _asked("norm kernels", partial(kernels, "norms"))
    for name, place in (("output", output), ("cache", cache)):
        yield from _asked(name, partial(surroundings.folder, name, place))
    yield from _asked("runs", partial(surroundings.runs, output))


def _asked(topic: str, check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from check()
    except Exception as error:  # anything may be wrong with this machine
        yield Check("fail", topic, f"{type(error).__name__}: {error}", "fix the cause above")


def show(check: Check) -> Check:
    line = Text.assemble((f"{check.verdict:5}", COLOURS[check.verdict]), (f"{check.topic:18}", "bold"), check.found)
    Console().print(line.append(f" → {check.advice}" if check.advice else ""), soft_wrap=True)
    return check


def kernels(library: build.Library) -> Iterator[Check]:
    """Is a library of kernels compiled, or can it be?"""
    name, instead = build.NAMES[library]
    try:
        build.load(library)
    except build.BuildError as error:
        yield Check("warn", name.lower(), str(error), instead)
    else:
        yield Check("ok", name.lower(), build.status(library).partition(": ")[2])
