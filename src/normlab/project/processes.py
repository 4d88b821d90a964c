"""Several processes that train one project together: what they tell each other, and how an error of one ends them all.

A process that waits for another in a collective operation doesn't learn that it has failed: gloo notices that a
process has ended, NCCL doesn't. So a process that fails says so in the store through which they met, then ends. The
first process reports the error, with status 2 or 1; the others end with status 0, see `runs.run._take_part`.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch.distributed as dist

from normlab.config.errors import InputError
from normlab.stopping.request import Paused, Stopped

LOOK = 1.0  # seconds between two looks for the failure of another process
GRACE = 30.0  # seconds in which a process must have noticed it by itself
_KEY = "normlab/failed"

_Any = TypeVar("_Any")


def several() -> bool:
    """Is this one of several processes, and have they met?"""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """Of this process; 0 if there is only one."""
    return dist.get_rank() if several() else 0


def gathered(value: _Any) -> list[_Any]:
    """The value of each process, by rank; all must ask for it."""
    if not several():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def of_the_first(value: _Any) -> _Any:
    """The first process's value, in all of them; each keeps its own if that one can't be sent."""
    if not several():
        return value
    sent: list[Any] = [None]
    if rank() == 0:
        with suppress(Exception):  # a project's objects may raise anything
            pickle.dumps(value)
            sent = [(value,)]
    dist.broadcast_object_list(sent, 0)
    return value if sent[0] is None else sent[0][0]


@contextmanager
def together(processes: int) -> Iterator[None]:
    """Ends all processes of the run if one of them fails in the block.

    Args:
        processes: of the run; they needn't have met yet.

    Raises:
        InputError: in the first process, the error of the one that failed first.
        SystemExit: in the others.
    """
    if processes == 1:
        yield
        return
    watch = _Watch()
    watch.start()
    try:
        yield
        gathered(None)  # none leaves before all have succeeded
    except (Stopped, Paused):
        raise
    except Exception as error:
        if not several():
            raise  # Lightning ends the first process if another one doesn't come to meet it
        first = _told(error)
        if rank() > 0:
            if "debug=true" in sys.argv:
                traceback.print_exc()
            raise SystemExit(0) from None
        another = _of_another(first, error)
        if another is None:
            raise
        raise another from error
    finally:
        watch.done.set()


def _told(error: Exception) -> dict[str, Any]:
    """What the first process to fail has said, after this one has said what happened to it."""
    text = str(error) if isinstance(error, InputError) else "".join(traceback.format_exception(error))
    own = {"rank": rank(), "text": text, "input": isinstance(error, InputError)}
    try:
        first = _store().compare_set(_KEY, "", json.dumps(own))
        return dict(json.loads(first))
    except (RuntimeError, ValueError):  # the first process, which has the store, is gone
        return own


def _store() -> Any:
    return dist.distributed_c10d._get_default_store()


def _of_another(first: dict[str, Any], error: Exception) -> Exception | None:
    """The error of another process that is the cause of this process's; None if there is none."""
    if first["rank"] != rank() and first["text"] != str(error):
        text = f"{first['text']} (in process {first['rank']})"
        return InputError(text) if first["input"] else RuntimeError(text)
    if any(word in str(error) for word in ("Connection closed by peer", "Connection reset by peer")):
        return InputError(
            "another process of the run has ended without a message: killed, or out of memory; the same command "
            "resumes from what was saved"
        )
    return None


class _Watch(threading.Thread):
    """Ends this process if another one has failed and this one still waits for it."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="watch-other-processes")
        self.done = threading.Event()

    def run(self) -> None:
        """Look, until it is done."""
        store: Any = None
        while not self.done.wait(LOOK):
            if store is None and several():
                with suppress(RuntimeError):
                    # a connection of its own, because the other one may be in use
                    store = _store().clone()
            if store is not None and (text := _failure(store)) is not None:
                break
        else:
            return
        if self.done.wait(GRACE):
            return
        if rank() == 0:
            print(f"error: {text}", file=sys.stderr, flush=True)
        os._exit(0 if rank() else 2)


def _failure(store: Any) -> str | None:
    """What a process has said when it failed; empty if the first process is gone, and its store with it."""
    try:
        return str(json.loads(store.get(_KEY))["text"]) if store.check([_KEY]) else None
    except RuntimeError:
        return ""
