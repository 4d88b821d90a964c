"""Where rows come from: embedded packs, the user's files, the hub. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError, TaskConfig
from normlab.data.hub import read_hub
from normlab.files.folders import SPLITS, Layout, find
from normlab.files.tables import Asked, Part, read_table

PACKS = Path(__file__).parent / "packs"

Parts = list[Part]
Read = dict[str, Callable[[], Parts]]  # split → reads it


def layout(task: TaskConfig, *, training: bool = True) -> Layout | None:
    """The files of an embedded or local task; None for the hub. Reads none of them.

    Raises:
        InputError: there are no files, or none that can be read.
    """
    if task.source == "hub":
        return None
    if task.source == "path":
        return find(task.place, pictures=task.content == "images", training=training)
    found = _packed(str(task.pack))
    if "train" not in found:
        raise InputError(f"task.pack={task.pack} has only {' and '.join(found)}: give it after another pack, as in A+B")
    return Layout(PACKS, found)


def _packed(packs: str) -> dict[str, list[Path]]:
    """The files of one pack; of several, joined by +, a split of a later one replaces that of an earlier."""
    paths = sorted(path for path in PACKS.iterdir() if path.suffix == ".parquet")
    found: dict[str, list[Path]] = {}
    for pack in packs.split("+"):
        own = {split: [path for path in paths if path.name.startswith(f"{pack}-{split}")] for split in SPLITS}
        if not any(own.values()):
            known = ", ".join(sorted({path.name.partition("-")[0] for path in paths}))
            raise InputError(f"task.pack={packs}: there is no pack {pack!r}. Packs: {known}")
        found |= {split: files for split, files in own.items() if files}
    return found


def origin(task: TaskConfig) -> str:
    """The origin of embedded or local rows, in words."""
    return f"pack {task.pack}" if task.source == "embedded" else f"files at {task.path}"


def read(task: TaskConfig, found: Layout | None) -> tuple[Read, str]:
    """A function that reads each split, and one line about where the rows come from.

    Raises:
        InputError: the hub can't be read or, when a split is read, a file can't be read.
    """
    asked = {task.input: "input"} | ({str(task.target): "target"} if task.target else {})
    if found is None:
        return read_hub(task, asked)
    if found.labels:
        return {split: partial(_images, found, split, task) for split in found.splits}, origin(task)
    return {split: partial(_tables, paths, asked) for split, paths in found.splits.items()}, origin(task)


def _tables(paths: list[Path], asked: Asked) -> Parts:
    return [read_table(path, asked) for path in paths]


def _images(found: Layout, split: str, task: TaskConfig) -> Parts:
    paths = found.splits[split]
    values: dict[str, list[Any]] = {
        task.input: [{"bytes": None, "path": str(path)} for path in paths],
        str(task.target): found.labels[split],
    }
    return [Part(str(found.root if split == "train" and len(found.splits) == 1 else paths[0].parents[1]), values)]
