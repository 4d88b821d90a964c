"""The argument parser of all `normlab` commands: it refuses bad arguments in one line, as train.py does."""

from __future__ import annotations

import argparse
import difflib
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from normlab.command_line.columns import wrapped
from normlab.config.errors import InputError

MOST = 100  # characters in a line of help; longer ones are hard to read


class Parser(argparse.ArgumentParser):
    """The parser of one command; its help is the module's docstring.

    `output=FOLDER`, `runs=FOLDER` and `accept_code=true` do as well as `--output FOLDER`, as train.py takes them. Where
    a command reads runs, `output=FOLDER` is the folder of these runs, as it is for train.py.
    """

    def __init__(self, command: str, doc: str | None) -> None:
        super().__init__(
            prog=f"normlab {command}",
            description=wrapped(doc or "", min(shutil.get_terminal_size().columns, MOST)),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The arguments, those written as train.py takes them too.

        Raises:
            InputError: a flag is given another value than true.
        """
        return super().parse_known_args([self._as_option(each) for each in args or ()], namespace)

    def _as_option(self, argument: str) -> str:
        name, equals, value = argument.partition("=")
        option = f"--{name.replace('_', '-')}"
        if name == "output" and "--runs" in self._option_string_actions:
            written = "--output" in self._option_string_actions and not Path(value).is_dir()
            option = "--output" if written else "--runs"
        known = name in ("output", "runs") or name.startswith("accept_")
        if not equals or not known or option not in self._option_string_actions:
            return argument
        if self._option_string_actions[option].nargs != 0:
            return f"{option}={value}"
        if value.lower() != "true":
            self.error(f"{argument}: write {name}=true or {option}")
        return option

    def error(self, message: str) -> NoReturn:
        """Refuse, and name the argument that was probably meant.

        Raises:
            InputError: always.
        """
        unknown = message.removeprefix("unrecognized arguments: ").partition(" ")[0].partition("=")[0]
        near = difflib.get_close_matches(unknown, self._option_string_actions, n=1) if unknown.startswith("--") else []
        hint = f". Did you mean {near[0]}?" if near else ";"
        raise InputError(f"{message}{hint} `{self.prog} --help` lists the arguments")

    def add_runs(self) -> None:
        """Add `--runs`, the output folder whose runs the command reads."""
        self.add_argument("--runs", metavar="FOLDER", type=Path, default=Path("outputs"), help="default: outputs")


def real(low: float = -math.inf, high: float = math.inf, *, inclusive: bool = False) -> Callable[[str], float]:
    """An argument type: a finite number between two bounds; `inclusive`: or equal to one of them."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        inside = low <= value <= high if inclusive else low < value < high
        if not math.isfinite(value) or not inside:
            raise argparse.ArgumentTypeError(f"{text} is not {_range(low, high)}")
        return value

    return read


def count(text: str) -> int:
    """An argument type: a whole number from 0 to a million."""
    if not (text.isascii() and text.isdigit() and len(text) <= 7):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def new_file(*suffixes: str) -> Callable[[str], Path]:
    """An argument type: a file to write, in a folder that is there; with one of these suffixes, if there are any.

    It is read before any work is done, and keeps `--page runs.csv` from replacing the runs by a page.
    """

    def read(text: str) -> Path:
        path = Path(text)
        if path.is_dir():
            raise argparse.ArgumentTypeError(f"{text!r} is a folder; name a file")
        if not path.parent.is_dir():
            raise argparse.ArgumentTypeError(f"{text!r}: there is no folder {str(path.parent)!r}")
        if suffixes and path.suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{text!r}: the name must end in {' or '.join(suffixes)}")
        return path

    return read


def _range(low: float, high: float) -> str:
    if math.isfinite(high):
        return f"between {low:g} and {high:g}"
    return f"a finite number from {low:g}" if math.isfinite(low) else "a finite number"
