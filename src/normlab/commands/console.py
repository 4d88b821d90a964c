"""The console command: `normlab table`, `normlab report`, …; any other arguments start a run, as with train.py.

Each command's module is imported only when it is called, so that the help appears quickly.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from normlab.command_line.guard import guard
from normlab.config.errors import InputError
from normlab.stopping.program import begin

COMMANDS = {
    "train": "train or measure, as python train.py; the word is optional",
    "norms": "list all norms: equation, axes, state, parameters, source",
    "table": "show all runs in one table",
    "compare": "compare two groups of runs, paired by seed",
    "judge": "give a verdict on your own runs, from a table or logs",
    "study": "pack studies for another machine, and resume them from a pack",
    "report": "write the studies' results as a page with figures and tables",
    "advise": "say which norm to use for a network, according to the evidence",
    "watch": "show the curves of all runs in the terminal, without network",
    "dashboard": "create a W&B workspace and report for comparing norms",
    "sync": "upload to W&B what was logged offline",
    "clean": "remove failed, stale and damaged runs",
    "strip": "fold a trained network's norms and export it (torch.export, ONNX)",
    "bench": "time norms beside PyTorch's own",
    "check": "train your own code briefly, and say what its norms do wrong",
    "doctor": "list what won't work on this machine, and why",
}


def main() -> None:
    """The entry point of `normlab`."""
    begin("__main__")  # a console script imports this module under its own name
    with guard():
        call(sys.argv[1:])


def call(arguments: Sequence[str]) -> None:
    """Run the command that the arguments name.

    Raises:
        InputError: the arguments are invalid.
        SystemExit: with the exit status of a command that sets one.
    """
    name, *rest = [argument for argument in arguments if argument] or ["--help"]
    if name in ("-h", "--help"):
        print_commands()
    elif name in COMMANDS and name != "train":
        importlib.import_module(f"normlab.commands.{name}").main(rest)
    elif name == "train" or name[0] in "-+~" or "=" in name:
        sys.argv = [sys.argv[0], *(rest if name == "train" else arguments)]
        importlib.import_module("normlab.commands.train").start()
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InputError(
            f"there is no command {name!r}.{hint} Commands: {', '.join(COMMANDS)}. To "
            "train, give options such as norm=... model=..."
        )


def print_commands() -> None:
    """Print every command with its help, before the help of training."""
    from normlab.command_line.guard import print_help

    print("Commands (normlab COMMAND --help)")
    for name, does in COMMANDS.items():
        print(f"  {name:12}{does}")
    print()
    print_help()
