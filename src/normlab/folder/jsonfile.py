"""JSON files, written completely or not at all. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from normlab.folder.files import read_regular
from normlab.host.process import process_name


def write_json(path: Path, values: dict[str, Any], *, durable: bool = True) -> None:
    """Write `values` so that a reader sees the old file or the new one, never a part.

    Args:
        durable: wait until it is on the disk; too slow for files that are written every second.
    """
    part = path.with_name(f".{path.name}.{process_name()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(as_json(values).decode())
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def as_json(values: dict[str, Any]) -> bytes:
    """The content of a JSON file with these values."""
    return f"{json.dumps(values, indent=1)}\n".encode()


def read_json(path: Path) -> dict[str, Any]:
    """The values in a JSON file; empty if there is none or it is damaged."""
    try:
        return parse_json(read_regular(path))
    except (OSError, ValueError):
        return {}


def parse_json(content: bytes | str) -> dict[str, Any]:
    """The object in a JSON text.

    Raises:
        ValueError: it is not JSON, not an object, names a key twice or is nested too deeply to be read.
    """
    try:
        values = json.loads(content, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    return values


def write_cache(path: Path, values: dict[str, Any]) -> None:
    """Write values that can be recomputed, with a checksum."""
    write_json(path, {"sha256": _digest(values), "values": values}, durable=False)


def read_cache(path: Path) -> dict[str, Any]:
    """Read what `write_cache` wrote; empty if the file is missing or damaged."""
    kept = read_json(path)
    values = kept.get("values")
    return values if isinstance(values, dict) and _digest(values) == kept.get("sha256") else {}


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a repeated key, for which Python's parser would keep only the last value."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it names a key twice")
    return values
