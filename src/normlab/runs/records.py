"""All runs below a folder of results, read from their files. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from normlab.config.components import code_named
from normlab.folder.results import run_folders
from normlab.folder.run_folder import RunFolder
from normlab.folder.typed import parse_config
from normlab.runs.code import code_of
from normlab.runs.store import Found, look

_ASIDE = re.compile(r"\.(attempt|damaged)-\d+$")
_SEED = re.compile(rb'\n "seed": (\d+),')  # the format in which `write_json` writes top-level values


@dataclass(frozen=True, eq=False)
class Cell:
    """A config without its seed, read once for all runs that share it.

    config  as it was written, unchecked, because options may have changed since; empty if it can't be read
    code    hash of the current code for it
    """

    config: dict[str, Any] = field(default_factory=dict)
    code: str = ""


@dataclass(frozen=True)
class Record:
    """A run on the disk."""

    folder: Path
    cell: Cell
    seed: int | None
    found: Found

    @property
    def state(self) -> str:
        """`Found.state`; for an unfinished run, how it ended: failed, stopped or, without a record, killed."""
        if self.found.state not in ("partial", "foreign"):
            return self.found.state
        ended = str(self.found.status.get("state", "running"))
        return "killed" if ended == "running" else ended


def read_records(output: Path) -> Iterator[Record]:
    """Every run below `output`, by name, except those set aside."""
    code = cache(code_of)  # hashing the current code reads all its files, so it is done once per kind of run
    cells: dict[bytes, Cell] = {}
    for folder in _folders(output):
        if not is_aside(folder):
            record = read_record(folder, cells, code)
            if record.found.state != "missing":  # it has been moved away
                yield record


def read_record(folder: Path, cells: dict[bytes, Cell] | None = None, code: Callable[..., str] = code_of) -> Record:
    """The run in a folder, compared with the current code; `cells` caches configs already read."""
    cells = {} if cells is None else cells
    content = RunFolder(folder).config_content()
    seed = _SEED.search(content)
    shared = content[: seed.start()] + content[seed.end() :] if seed else b""
    if shared not in cells:
        cells[shared] = _cell(shared, code)
    cell = cells[shared]
    found = look(folder, cell.code)
    if found.status and not (cell.config and seed) and found.state not in ("running", "damaged"):
        found = Found("damaged", found.status, {}, "config.json can't be read")
    return Record(folder, cell, int(seed[1]) if seed else None, found)


def _cell(content: bytes, code: Callable[..., str]) -> Cell:
    config = parse_config(content)
    if not config:
        return Cell()
    classes = (config["norm"], config["model"], config["measure"].get("against"))
    try:
        return Cell(config, code(config["measure"]["name"], *code_named(*classes)))
    except (
        SyntaxError,
        ValueError,
        OSError,
        RecursionError,
    ):  # the user's own module can't be read, or there is no such module
        return Cell(config)


def set_aside(output: Path) -> list[Path]:
    """Folders of earlier attempts and of damaged runs."""
    return [folder for folder in _folders(output) if is_aside(folder)]


def is_aside(folder: Path) -> bool:
    """Is it a folder set aside, not the run itself?"""
    return _ASIDE.search(folder.name) is not None


def _folders(output: Path) -> list[Path]:
    return [run.folder for run in run_folders(output)]
