"""Where something was made: folders and a machine's name, which a pack leaves out. Imports no torch.

Elsewhere they say nothing, and they are private: a home folder holds a person's name. Of an absolute path the last part
is kept, so that a command can still be read.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any


def without_places(made: dict[str, Any]) -> dict[str, Any]:
    """A run's provenance or a study's manifest without them, and likewise each earlier part of the run."""
    values = {key: value for key, value in made.items() if key != "folder"}
    if isinstance(machine := values.get("machine"), dict):
        values["machine"] = {key: value for key, value in machine.items() if key != "host"}
    if isinstance(command := values.get("command"), str):
        values["command"] = _without_folders(command)
    if isinstance(before := values.get("before"), list):
        values["before"] = [without_places(part) if isinstance(part, dict) else part for part in before]
    return values


def last_part(value: str) -> str:
    """The last part of an absolute path; anything else is unchanged."""
    return Path(value).name if Path(value).is_absolute() else value


def _without_folders(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # not a command that normlab has recorded
        return ""
    options = (word.rpartition("=") for word in words)
    return shlex.join(f"{option}{equals}{last_part(value)}" for option, equals, value in options)
