"""The looks that findings have had, in any study, stored below the folder of all results and never removed.

<output>/looks/<finding>-<scale>.jsonl  one line per look, appended

They remain if a study's folder is deleted, or if the finding is repeated in another study of the same output folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.folder.jsonfile import parse_json

_NEEDED = {"n": int, "state": str, "reason": str, "rule": str, "looks": list}


@dataclass(frozen=True)
class LooksFile:
    """The file of a finding at a scale; it need not exist."""

    output: Path
    finding: str
    scale: str

    @property
    def path(self) -> Path:
        """The file."""
        return looks_file(self.output, f"{self.finding}-{self.scale}")

    def read(self) -> list[dict[str, Any]]:
        """All looks in order; none if there is no file.

        Raises:
            InputError: a line is damaged, so earlier looks are unknown.
        """
        return parse_looks(str(self.path), self.content())

    def content(self) -> bytes:
        """The lines of the file; none if there is no file."""
        return self.path.read_bytes() if self.path.exists() else b""

    def add(self, look: dict[str, Any]) -> None:
        """One more; it is on the disk when this returns."""
        append_looks(self.path, [json.dumps(look).encode()])


def parse_looks(where: str, content: bytes) -> list[dict[str, Any]]:
    """The looks of a file's content.

    Raises:
        InputError: a line is damaged, so that what was seen is not known.
    """
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            look = parse_json(line)
        except ValueError:
            look = {}
        if any(type(look.get(name)) is not kind for name, kind in _NEEDED.items()):
            raise InputError(
                f"{where}: line {number} is damaged, so that the looks of this finding are not known. "
                "Restore the file, or start again with another output=..."
            )
        found.append(look)
    return found


def append_looks(path: Path, lines: Iterable[bytes]) -> None:
    """Add lines to a file of looks; they are on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def looks_file(output: Path, stem: str) -> Path:
    """The file of the looks of `<finding>-<scale>`."""
    return looks_folder(output) / f"{stem}.jsonl"


def looks_folder(output: Path) -> Path:
    """The folder of all looks below the folder of all results."""
    return output / "looks"
