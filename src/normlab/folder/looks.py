"""The looks that findings have had, below the folder of all results: in whatever study, and never undone.

<output>/looks/<finding>-<scale>.jsonl  one line per look, added at its end

A study's folder may be deleted, or the finding run again in another study of the same output: what was seen stays seen.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.folder.jsonfile import parse_json

_NEEDED = {"n": int, "state": str, "reason": str, "rule": str, "looks": list}


@dataclass(frozen=True)
class LooksFile:
    """Of a finding at a scale; it need not exist."""

    output: Path
    finding: str
    scale: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.output / "looks" / f"{self.finding}-{self.scale}.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """All looks in their order; none if there is no file.

        Raises:
            InputError: a line is damaged, so that what was seen is not known.
        """
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                look = parse_json(line)
            except ValueError:
                look = {}
            if any(type(look.get(name)) is not kind for name, kind in _NEEDED.items()):
                raise InputError(
                    f"{self.path}: line {number} is damaged, so that the looks of {self.finding} are not known. "
                    "Restore the file, or start again with another output=..."
                )
            found.append(look)
        return found

    def add(self, look: dict[str, Any]) -> None:
        """One more; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(look) + "\n")
            file.flush()
            os.fsync(file.fileno())
