"""Errors on the command line: one clear message and an exit status.

0 done · 1 a bug, with its traceback · 2 bad input · 129 terminal closed · 130 Ctrl-C · 143 SIGTERM
"""

from __future__ import annotations

import errno
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from normlab.config.errors import InputError
from normlab.config.shipped import CONF
from normlab.stopping.request import stop_request


@contextmanager
def guard() -> Iterator[None]:
    """Print an input error of the block as a message and exit; `debug=true` raises it instead.

    It is used around Hydra, which finds mistakes in the options, and again inside it around the run, because Hydra
    would report an error of the run as a failed job.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its exceptions instead of printing them
    if os.environ.get("COLUMNS") == "0":  # set where the terminal's width isn't known; rich would print nothing
        del os.environ["COLUMNS"]
    try:
        yield
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if stop_request().signum is not None:  # a library turned the request to stop into its own error
            stop_request().obey()
        message = _words(error)
        if message is None or "debug=true" in sys.argv:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def print_help() -> None:
    """Print our help, because Hydra's lists every group and takes a second."""
    print(help_text(), end="")


def help_text() -> str:
    """`conf/help.txt` with the choices of the groups that users can extend."""
    choices = {name: _folded(path.stem for path in (CONF / name).glob("*.yaml")) for name in _GROWING}
    tasks = [(path.stem, _source_of(path)) for path in (CONF / "task").glob("*.yaml")]
    choices |= {source: _folded(name for name, own in tasks if own == source) for source in ("embedded", "hub", "path")}
    return Template((CONF / "help.txt").read_text(encoding="utf-8")).safe_substitute(choices)


_GROWING = ("norm", "model", "measure")


def _source_of(task: Path) -> str:
    """The source of a task's data; a task may inherit it from the one that it extends."""
    text = task.read_text(encoding="utf-8")
    if found := re.search(r"^source: (\w+)", text, re.MULTILINE):
        return found[1]
    extended = re.search(r"^  - (\w+)$", text, re.MULTILINE)
    return _source_of(task.with_stem(extended[1])) if extended else ""


def _folded(names: Iterable[str]) -> str:
    """The names in lines of 80 characters, of which the first begins after 16 others."""
    return textwrap.fill(
        ", ".join(sorted(names)), width=80, initial_indent=" " * 16, subsequent_indent=" " * 16
    ).strip()


def _words(error: Exception) -> str | None:
    """What is wrong with the input; None for a bug in the program."""
    if isinstance(error, InputError):
        return str(error)
    if _is_memory(error):
        return (
            "out of memory: what was saved is kept, and the same command resumes from it; free some memory, or "
            "use a smaller model or task.batch_size (which makes it a different run)"
        )
    if isinstance(error, FileNotFoundError) and not _in_a_folder():
        return "the folder in which this command was given has been removed: go to one that is there"
    if isinstance(error, OSError) and str(error.filename).startswith(("/proc/", "/sys/")):
        return f"{error.filename} is a system folder that can't hold files; choose another folder"
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return f"{error.strerror}: {error.filename}. Choose another folder with output=..."
    if "hydra" not in sys.modules:  # nothing has been composed yet
        return None
    from normlab.command_line.composition import words

    return words(error, CONF)


def _in_a_folder() -> bool:
    try:
        return bool(Path.cwd())
    except FileNotFoundError:
        return False


def _is_memory(error: Exception) -> bool:
    """Did an allocation fail? torch's own errors can be recognised only by their words."""
    words = ("can't allocate memory", "out of memory", "bad_alloc")
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(word in str(error) for word in words))
    )


_UNWRITABLE = (errno.EACCES, errno.EEXIST, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG)
