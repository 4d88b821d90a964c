"""What the command line answers when something is wrong: one clear message and an exit status.

0 done · 1 a defect, with its traceback · 2 the input can't work · 129 terminal closed · 130 Ctrl-C · 143 SIGTERM
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from normlab.config.schema import InputError
from normlab.stopping.request import stop_request

CONF = Path(__file__).parents[3] / "conf"


@contextmanager
def guard() -> Iterator[None]:
    """Word the input errors of the block for the user and exit; `debug=true` lets them through.

    It stands around Hydra, which finds mistakes in the choices, and once more inside, around the run: what left
    through Hydra would be announced by it as a failed job.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands its exceptions on instead of printing them
    try:
        yield
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if stop_request().signum is not None:  # a library turned the request into an error of its own
            stop_request().obey()
        message = _words(error)
        if message is None or "debug=true" in sys.argv:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def print_help() -> None:
    """The help for a person; Hydra's own lists every group, which takes it a second."""
    print((CONF / "help.txt").read_text(encoding="utf-8"), end="")


def _words(error: Exception) -> str | None:
    """What was wrong with the input; None for a defect of the program."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        return f"{error.strerror}: {error.filename}. Choose another folder with output=..."
    if "hydra" not in sys.modules:  # nothing was composed
        return None
    from normlab.config.composition import words

    return words(error, CONF)


_UNWRITABLE = (errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.ENOSPC, errno.EDQUOT)
