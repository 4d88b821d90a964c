"""Where something was made: folders and a machine's name, which a pack leaves out. Imports no torch.

Elsewhere they say nothing, and they are private: a home folder holds a person's name. Of an absolute path the last part
is kept, so that a command can still be read.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normlab.folder.jsonfile import as_json, parse_json
from normlab.folder.run_record import CONFIG, PROVENANCE, STATUS
from normlab.folder.study_folder import MADE

_FOLDERS = ("output", "cache")  # options of a run


def study_without_places(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """A study's files without the places in its manifest."""
    if MADE not in files:
        return dict(files)
    return {**files, MADE: as_json(without_places(parse_json(files[MADE])))}


def run_without_places(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of an undamaged run's record without the places in its config and provenance."""
    config, status, provenance = (parse_json(files[name]) for name in (CONFIG, STATUS, PROVENANCE))
    config |= {key: _last_part(config[key]) for key in _FOLDERS if key in config}
    made = {**files, CONFIG: as_json(config), PROVENANCE: as_json(without_places(provenance))}
    if "config" in status:  # its checksum; runs of earlier versions have none
        made[STATUS] = as_json({**status, "config": hashlib.sha256(made[CONFIG]).hexdigest()})
    return made


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


def _last_part(value: str) -> str:
    return Path(value).name if Path(value).is_absolute() else value


def _without_folders(command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError:  # not a command that normlab has recorded
        return ""
    options = (word.rpartition("=") for word in words)
    return shlex.join(f"{option}{equals}{_last_part(value)}" for option, equals, value in options)
