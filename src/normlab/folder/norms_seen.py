"""What a run's monitor found wrong with its norms. Not part of the summary, because it depends on the time of looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from normlab.folder.jsonfile import read_json, write_json

_NAME = "norms.json"


def write_found(folder: Path, brief: list[str], report: dict[str, Any]) -> None:
    """Keep the lines that close the run and the whole report; without lines there is no file."""
    file = folder / _NAME
    if brief:
        write_json(file, {"brief": brief, **report})
    else:
        file.unlink(missing_ok=True)


def read_found(folder: Path) -> list[str]:
    """The lines; none where nothing was found, or the file can't be read."""
    found = read_json(folder / _NAME).get("brief")
    return [line for line in found if isinstance(line, str)][:3] if isinstance(found, list) else []
