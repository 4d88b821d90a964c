"""Where rows come from: embedded packs, the user's files, the hub. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError, TaskConfig
from normlab.data.fitted import Fitted
from normlab.data.hub import read_hub
from normlab.files.folders import SPLITS, Layout, find
from normlab.files.pairs import find_pairs, holds_pairs
from normlab.files.part import Asked, Part, check_columns, is_index
from normlab.files.tables import columns_of, kind, read_table

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
        return _own(task, training)
    found = _packed(str(task.pack))
    if "train" not in found:
        raise InputError(f"task.pack={task.pack} has only {' and '.join(found)}: give it after another pack, as in A+B")
    return Layout(PACKS, found)


def _own(task: TaskConfig, training: bool) -> Layout:
    """The user's own files, with the table of test rows if it is in another place."""
    if task.goal == "segmentation" and holds_pairs(task.place):
        found = find_pairs(task.place, str(task.input), str(task.target), training=training)
    else:
        found = find(task.place, pictures=task.content == "images", training=training)
    if task.test_place is not None:
        _add_test(task, found)
    found.inner = _recordings(task, found)
    used = {path for paths in found.inner.values() for path in paths}
    found.passed = [path for path in found.passed if path not in used]
    return found


def _add_test(task: TaskConfig, found: Layout) -> None:
    assert task.test_place is not None
    if "test" in found.splits:
        raise InputError(f"task.test={task.test}: {task.path} has a test split of its own, {found.splits['test'][0]}")
    if found.named:
        raise InputError("task.test names a table, and the data are folders of images: add a folder named test")
    if not task.test_place.is_file():
        raise InputError(f"task.test={task.test}: there is no such file")
    (test,) = find(task.test_place, pictures=task.content == "images").splits.values()
    found.splits["test"] = test


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


def features(task: TaskConfig, found: Layout | None, known: Fitted | None) -> list[str]:
    """The columns of the input: those of training, those that the task names, or all of a table with no other use.

    Raises:
        InputError: the training file can't be read, or no column is left.
    """
    if task.content == "table" and known is not None and known.columns is not None:
        return list(known.columns)
    if task.inputs is not None:
        return task.inputs
    if found is None:
        raise InputError("task.input=null reads all columns of a file; name those of a data set of the hub")
    path, used = found.splits["train"][0], {task.target, task.groups, *task.omit}
    has = columns_of(path, task.target)
    check_columns(path, {str(task.target): "target"} | ({task.groups: "groups"} if task.groups else {}), has)
    if missing := next((name for name in task.omit if name not in has), None):
        raise InputError(f"task.omit: {path} has no column {missing!r}; it has: {', '.join(has)[:500]}")
    left = [name for name in has if name not in used and not is_index(name)]
    if not left:
        raise InputError(f"{path} has no column besides task.target={task.target} that could be a feature")
    return left


def read(task: TaskConfig, found: Layout | None, names: Sequence[str]) -> tuple[Read, str]:
    """A function that reads each split, and one line about where the rows come from.

    Args:
        task: what to read.
        found: its files.
        names: the columns of the input.

    Raises:
        InputError: the hub can't be read or, when a split is read, a file can't be read.
    """
    asked = dict.fromkeys(names, "input") | ({str(task.target): "target"} if task.target else {})
    asked |= {task.groups: "groups"} if task.groups else {}
    if found is None:
        return read_hub(task, asked)
    if found.named:
        if task.groups is not None:
            raise InputError(f"task.groups={task.groups} is a column, and folders of images have none")
        return {split: partial(_images, found, split, task) for split in found.splits}, origin(task)
    return {split: partial(_tables, paths, asked) for split, paths in found.splits.items()}, origin(task)


def _recordings(task: TaskConfig, found: Layout) -> dict[str, list[Path]]:
    """The files that CSV tables of series name, by split: they are part of the data."""
    named: dict[str, list[Path]] = {}
    if task.content != "series" or len(names := task.inputs or []) != 1:
        return named
    for split, paths in found.splits.items():
        for path in paths:
            if kind(path) == "csv":
                with suppress(InputError):  # which is reported where the table is read for its rows
                    values = read_table(path, {names[0]: "input"}).values[names[0]]
                    named.setdefault(split, []).extend(path.parent / value for value in values)
    return {split: [path for path in paths if path.is_file()] for split, paths in named.items()}


def _tables(paths: list[Path], asked: Asked) -> Parts:
    return [read_table(path, asked) for path in paths]


def _images(found: Layout, split: str, task: TaskConfig) -> Parts:
    paths = found.splits[split]
    answers = [_of_path(path) for path in found.masks[split]] if found.masks else found.labels[split]
    values: dict[str, list[Any]] = {str(task.input): [_of_path(path) for path in paths], str(task.target): answers}
    return [Part(str(found.root if split == "train" and len(found.splits) == 1 else paths[0].parents[1]), values)]


def _of_path(path: Path) -> dict[str, Any]:
    return {"bytes": None, "path": str(path)}
