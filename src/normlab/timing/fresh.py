"""Runs a measure in a fresh process, where nothing has run before: for times, whose unit is the process."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.session.session import Session
from normlab.stopping.output import tolerate_failing_output

Found = tuple[dict[str, Any], list[dict[str, float]]]  # the summary, and rows for the run's metrics


def measure_fresh(find: Callable[[Session], Found], config: RunConfig, place: Place) -> dict[str, Any]:
    """What `find` returns in a fresh process; its rows go to the loggers.

    Raises:
        RuntimeError: the process died without an answer.
        Exception: any error of `find`.
    """
    summary, rows = _in_fresh_process(find, config, place)
    # imports Lightning, which takes as long as the times themselves; done here, it happens only once in a multirun
    from normlab.session.loggers import Loggers

    loggers = Loggers(config, place)
    for i, row in enumerate(rows, 1):
        loggers.log(row, i)
    return loggers.close(summary)


def _in_fresh_process(find: Callable[[Session], Found], config: RunConfig, place: Place) -> Found:
    # not multiprocessing, with which joblib's workers can't start a process
    command = [sys.executable, "-m", "normlab.timing.fresh"]
    # in its own group, so that Ctrl-C reaches only the process that waits, which ends this one
    ended = subprocess.run(
        command, input=pickle.dumps((find, config, place)), stdout=subprocess.PIPE, check=False, process_group=0
    )
    try:
        answer = pickle.loads(ended.stdout)
    except (EOFError, pickle.UnpicklingError):
        raise RuntimeError(f"the timing process died with status {ended.returncode}") from None
    if isinstance(answer, Exception):
        raise answer
    found: Found = answer
    return found


def main() -> None:
    """The fresh process: read the function and the session, write the result or the error."""
    with suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as out:  # if nobody waits for it any more
        os.dup2(2, 1)  # what is printed meanwhile is not part of the answer
        tolerate_failing_output()
        answer: Found | Exception
        try:
            find, config, place = pickle.load(sys.stdin.buffer)
            answer = find(Session(config, place))
        except Exception as error:
            error.add_note(traceback.format_exc())  # the other process wouldn't see the place of the error
            answer = error
        out.write(pickle.dumps(answer))


if __name__ == "__main__":
    main()
