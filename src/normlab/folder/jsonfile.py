"""JSON files that are whole or not there. Imports no torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, values: dict[str, Any], *, durable: bool = True) -> None:
    """Write `values` so that a reader sees the old file or the new one, never a part.

    Args:
        durable: have the disk take it before going on; not worth its time for what is written every second.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            json.dump(values, file, indent=1)
            file.write("\n")
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The values in a JSON file; empty if there is none or it is damaged."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
