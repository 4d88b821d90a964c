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
    names = sorted(path.name for path in PACKS.iterdir() if path.suffix == ".parquet")
    found = {split: [PACKS / name for name in names if name.startswith(f"{task.pack}-{split}")] for split in SPLITS}
    if not found["train"]:
        packs = ", ".join(sorted({name.rsplit("-train", 1)[0] for name in names if "-train" in name}))
        raise InputError(f"task.pack={task.pack}: there is no such pack. Packs: {packs}")
    return Layout(PACKS, {split: paths for split, paths in found.items() if paths})


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
