"""Starts a run of W&B: online if that works, otherwise offline. A failure never harms the run.

Imports neither torch nor Lightning.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from normlab.config.schema import WandbConfig
from normlab.folder.run_folder import RunFolder
from normlab.mirror.wandb_access import PROBE, unreachable

TRIES = 3  # tries to start an offline run


def begin(options: WandbConfig, online: bool, folder: Path, facts: dict[str, Any], older: Iterable[Path] = ()) -> Any:
    """W&B's run: online if that is requested and works, otherwise offline.

    Args:
        folder: where W&B's client writes.
        facts: arguments of `wandb.init` about the run: id, name, group, …
        older: fragments of the same run that this one replaces.
    """
    import wandb as client

    os.environ.setdefault("WANDB_SILENT", "true")  # our own lines say how to view and upload
    if client.run is not None:  # an earlier run of a multirun failed
        with suppress(Exception):
            client.finish(exit_code=1)
    settings = client.Settings(
        console="off",
        silent=True,
        save_code=True,
        init_timeout=options.timeout,
        finish_timeout=options.timeout,
        finish_timeout_raises=True,
    )
    arguments = {
        "project": options.project,
        "entity": options.entity,
        "dir": folder,
        "resume": "allow",
        "settings": settings,
        **facts,
    }
    run = _online(client, arguments, min(PROBE, options.timeout)) if online else None
    if run is None:
        run = _offline(client, arguments)
    for fragment in older if run is not None else []:
        shutil.rmtree(fragment, ignore_errors=True)
    return run


def fragments(folder: Path, name: str) -> list[Path]:
    """The fragments that earlier processes wrote for the run with that id, in the folder of W&B's client."""
    return sorted(folder.glob(f"*run-*-{name}"))


def note_address(folder: RunFolder, url: str | None) -> None:
    """Record the run's address on the server; an offline run has none yet."""
    if url:
        folder.write_address(url)


def _online(client: Any, arguments: dict[str, Any], seconds: float) -> Any:
    """An online run, or None and one warning."""
    try:
        why = unreachable(str(client.setup().settings.base_url), seconds)
        if not why:
            return client.init(mode="online", **arguments)
    except Exception as error:  # its client and its service raise errors of many kinds
        why = _worded(error, arguments)
        client.teardown()  # its service believes that the run's id is in use
    for failed in RunFolder(arguments["dir"]).wandb.glob(f"run-*-{arguments['id']}"):
        shutil.rmtree(failed, ignore_errors=True)
    warn(f"{why}: logging continues offline, and `make sync` uploads it later")
    return None


def _offline(client: Any, arguments: dict[str, Any]) -> Any:
    """An offline run, or None and one warning."""
    off = os.environ.get("WANDB_MODE") == "disabled"
    for left in reversed(range(TRIES)):
        try:
            return client.init(mode="disabled" if off else "offline", **arguments)
        except Exception as error:
            if left == 0:
                warn(f"can't log, not even offline ({one_line(error)}); the run continues without W&B")
            client.teardown()
            time.sleep(
                1.0
            )  # on a busy machine, its service ends and forgets the run's id only after reporting that it has
    return None


def _worded(error: BaseException, arguments: dict[str, Any]) -> str:
    text = str(error)
    if "401" in text or type(error).__name__ == "AuthenticationError":
        return "the API key is refused (`wandb login --relogin` sets another)"
    if arguments["entity"] and str(arguments["entity"]) in text:
        return f"logger.wandb.entity={arguments['entity']} does not exist there"
    return one_line(error)


def one_line(error: BaseException) -> str:
    """The message of an error."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def warn(text: str) -> None:
    """Print one line for the user."""
    print(f"W&B: {text}", file=sys.stderr, flush=True)
