"""What a run has recorded, without its checkpoints: enough to know its result elsewhere. Imports no torch."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from normlab.folder.files import read_regular
from normlab.folder.jsonfile import as_json, parse_json
from normlab.folder.typed import Config, Status, typed

CONFIG, STATUS, _SUMMARY, PROVENANCE = "config.json", "status.json", "summary.json", "provenance.json"
_ROWS, _SCORES = "metrics.jsonl", "example_scores.json"
RECORDED = (CONFIG, STATUS, _SUMMARY, PROVENANCE, _ROWS, _SCORES)  # see `run_folder`


@dataclass(frozen=True)
class RunRecord:
    """The content of a run's files, by name; those of a run that logs nothing have no rows."""

    id: str
    files: dict[str, bytes]

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """As they lie in the run's folder."""
        files = {}
        for name in RECORDED:
            with suppress(OSError):
                files[name] = read_regular(folder / name)
        return cls(folder.name, files)

    def write(self, folder: Path) -> None:
        """Into a new folder."""
        folder.mkdir(parents=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)

    @cached_property
    def status(self) -> dict[str, Any]:
        """Empty if it is missing or damaged, as with all of these."""
        return typed(self._parsed(STATUS), Status)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The whole config."""
        return typed(self._parsed(CONFIG), Config)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The flat result."""
        return self._parsed(_SUMMARY)

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What it was made with."""
        return self._parsed(PROVENANCE)

    @property
    def data(self) -> str:
        """The fingerprint of its data."""
        return str(self.provenance.get("data", ""))

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.config.get("seed", 0))

    @property
    def is_finished(self) -> bool:
        """Does it say so?"""
        return self.status.get("state") == "finished"

    @property
    def is_paused(self) -> bool:
        """Does it say that it has come as far as it was launched for? Its validations are known; it has no result."""
        return self.status.get("state") == "paused"

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Every logged row that can be read."""
        found = []
        for line in self.files.get(_ROWS, b"").splitlines():
            with suppress(ValueError):
                found.append(parse_json(line))
        return found

    @property
    def problem(self) -> str:
        """What of the record of a finished or paused run is missing or was changed later, in words; or empty."""
        digests = {_SUMMARY: self.status.get("summary"), CONFIG: self.status.get("config")}
        if self.is_paused:
            del digests[_SUMMARY]
        digests |= {_ROWS: self.status.get("rows"), _SCORES: self.status.get("example_scores")}
        for name, digest in digests.items():
            # runs of earlier versions recorded no checksum but the summary's
            if (digest or name == _SUMMARY) and self._digest(name) != digest:
                return f"its {name} is not what the run wrote"
        for name, values in ((CONFIG, self.config), (_SUMMARY, self.summary), (PROVENANCE, self.data)):
            if not values and not (self.is_paused and name == _SUMMARY):
                return f"its {name} is missing or damaged"
        return ""

    def agrees_with(self, other: RunRecord) -> bool:
        """Is it the same result: the same summary and logged values?"""
        return all(self._digest(name) == other._digest(name) for name in (_SUMMARY, _ROWS))

    def accepting(self, code: str) -> RunRecord:
        """The same, counting as a result of the code with this hash too."""
        status = {**self.status, "accepted": [*self.status.get("accepted", []), code]}
        return replace(self, files={**self.files, STATUS: as_json(status)})

    def _digest(self, name: str) -> str:
        return hashlib.sha256(self.files.get(name, b"")).hexdigest()

    def _parsed(self, name: str) -> dict[str, Any]:
        try:
            return parse_json(self.files.get(name, b""))
        except ValueError:
            return {}
