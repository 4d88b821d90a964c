"""Data sets of the Hugging Face hub, usable offline after the download; an unreachable hub is reported quickly."""

from __future__ import annotations

import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from normlab.config.schema import Hub, InputError, TaskConfig
from normlab.files.tables import Asked, Part, check_columns

if TYPE_CHECKING:
    from datasets import Dataset

PATIENCE = 4.0  # seconds until the hub counts as unreachable


def read_hub(task: TaskConfig, asked: Asked) -> tuple[dict[str, Callable[[], list[Part]]], str]:
    """Functions that load the requested columns of each split, and the data set's name with its fingerprints.

    Raises:
        InputError: the hub can't be reached (after `PATIENCE` seconds, where datasets alone tries for 23)
            and the data set has not been downloaded before; or there is no such data set or split.
    """
    from datasets import config, load_dataset

    hub = task.hub
    assert hub is not None
    reachable = not config.HF_HUB_OFFLINE and _reachable(config.HF_ENDPOINT)
    with _offline(not reachable):
        try:
            found = load_dataset(hub.name, hub.config, revision=hub.revision, data_dir=hub.folder)
        except Exception as error:  # connection, HTTP and format errors share no base class
            if not reachable:
                raise InputError(_unreachable(task, config.HF_ENDPOINT)) from error
            reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise InputError(f"task={task.name}: {hub.name} can't be loaded from the hub: {reason}") from error
    rows: dict[str, Dataset] = {ours: _split(hub, found, theirs) for ours, theirs in hub.splits.items()}
    prints = ",".join(part._fingerprint for part in rows.values())
    read: dict[str, Callable[[], list[Part]]] = {
        split: partial(_part, f"{task.name} ({split})", found, asked) for split, found in rows.items()
    }
    return read, f"hub {hub.name} (config {hub.config}, revision {hub.revision}, fingerprints {prints})"


def _part(name: str, rows: Dataset, asked: Asked) -> list[Part]:
    check_columns(name, asked, rows.column_names)
    target = next((column for column, key in asked.items() if key == "target"), None)
    names = getattr(rows.features.get(target), "names", None)
    values = {column: rows.data.column(column).to_pylist() for column in asked}
    return [Part(name, values, names=tuple(names) if names else None)]


def _split(hub: Hub, found: Any, name: str) -> Dataset:
    if name not in found:
        raise InputError(f"{hub.name} has no split {name!r}; it has: {', '.join(found)} (see task.hub.splits)")
    return found[name]


def _unreachable(task: TaskConfig, endpoint: str) -> str:
    if task.goal == "language_modelling":
        instead = "union"
    elif task.content == "images":
        instead = "fashion_mnist" if task.view == "images" else "fashion_rows"
    else:
        instead = "wrist_motion" if task.content == "series" else "author"
    return (
        f"task={task.name}: the hub ({endpoint}) can't be reached and the data set has not been downloaded before. "
        f"Embedded, without network: task={instead}"
    )


def _reachable(endpoint: str) -> bool:
    """Does the hub answer at all? Asked in a thread, because a name lookup has no time limit of its own."""
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(endpoint, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=PATIENCE).close()
        except urllib.error.HTTPError:
            answered.set()  # it refuses HEAD, but it answers
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLError):
                answered.set()  # the hub's own client checks certificates
        except OSError:
            pass
        else:
            answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return answered.is_set()


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """Make datasets use only earlier downloads; both libraries read their flags at import, so these are set here."""
    import huggingface_hub.constants
    from datasets import config

    flags = (config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE)
    config.HF_HUB_OFFLINE = flags[0] or wanted
    huggingface_hub.constants.HF_HUB_OFFLINE = flags[1] or wanted
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE, huggingface_hub.constants.HF_HUB_OFFLINE = flags
