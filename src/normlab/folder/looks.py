"""The looks that findings have had, in any study, stored below the folder of all results and never removed.

<output>/looks/<finding>-<scale>.jsonl  one line per look, appended

They remain if a study's folder is deleted, or if the finding is repeated in another study of the same output folder.
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
    """The file of a finding at a scale; it need not exist."""

    output: Path
    finding: str
    scale: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.output / "looks" / f"{self.finding}-{self.scale}.jsonl"

    def read(self) -> list[dict[str, Any]]:
        """All looks in order; none if there is no file.

        Raises:
            InputError: a line is damaged, so earlier looks are unknown.
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
                    f"{self.path}: line {number} is damaged, so the earlier looks of {self.finding} are unknown. "
                    "Restore the file, or start again with another output=..."
                )
            found.append(look)
        return found

    def add(self, look: dict[str, Any]) -> None:
        """Append a look; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(look) + "\n")
            file.flush()
            os.fsync(file.fileno())
