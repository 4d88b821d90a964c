"""Files whose names have a hash of their content, so that one which is there need not be written again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from normlab.host.process import process_name


def write_once(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file unless it is there; another process sees it whole or not at all, and may write it at the same time.

    Args:
        write: gets the file.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{process_name()}.part")
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
