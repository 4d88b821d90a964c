"""Where rows come from: embedded packs, the user's files, the hub; all of them through `datasets`.

A user is told of a row by file, row (the first is 1; a CSV header is not counted) and column.
Imports no torch, and `datasets` only when rows are read.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.config.schema import InputError, TaskConfig
from normlab.data.hub import read_hub

if TYPE_CHECKING:
    from datasets import Dataset

PACKS = Path(__file__).parent / "packs"
READERS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json", ".txt": "text"}
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
SPLITS = ("train", "validation", "test")
_NO_ROWS = ("corresponds to no data", "BatchSize must be greater than 0")  # how `datasets` and Parquet put it
_NAMED = re.compile(r"(train|validation|valid|val|dev|test)(?![a-zA-Z])")


@dataclass(frozen=True)
class Part:
    """The rows of one file, or of one split on the hub; `typed` is false for CSV, which only holds text."""

    name: str
    rows: Dataset
    typed: bool = True


Parts = dict[str, list[Part]]


def files(task: TaskConfig) -> dict[str, list[Path]]:
    """The files of each split of an embedded or local task; empty for the hub. Reads none of them.

    Raises:
        InputError: nothing is there, or nothing that can be read.
    """
    if task.source == "hub":
        return {}
    if task.source == "embedded":
        found = {split: sorted(PACKS.glob(f"{task.pack}-{split}*.parquet")) for split in SPLITS}
        if not found["train"]:
            raise InputError(f"task.pack={task.pack}: no such pack is installed. {_packs()}")
        return {split: paths for split, paths in found.items() if paths}
    try:
        return _local_files(Path(str(task.path)))
    except OSError as error:
        raise InputError(f"task.path={task.path} can't be read: {error.strerror}") from error


def read(task: TaskConfig) -> tuple[Parts, str]:
    """The rows of each split, and one line that says where they came from.

    Raises:
        InputError: a file or the hub can't be read.
    """
    if task.source == "hub":
        rows, origin = read_hub(task)
        return {split: [Part(f"{task.name} ({split})", part)] for split, part in rows.items()}, origin
    parts: Parts = {}
    with _quiet():
        for split, paths in files(task).items():
            if paths[0].suffix.lower() in IMAGES:
                parts[split] = [_image_rows(paths, task)]
            else:
                parts[split] = [_read_file(path, task) for path in paths]
    return parts, f"pack {task.pack}" if task.source == "embedded" else f"files at {task.path}"


def _packs() -> str:
    return "Packs: " + ", ".join(sorted({path.name.rsplit("-train", 1)[0] for path in PACKS.glob("*-train*")}))


def _local_files(path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        if path.suffix.lower() not in READERS:
            raise InputError(f"{path}: files of type {path.suffix!r} can't be read; {_accepted()}")
        return {"train": [path]}
    if not path.is_dir():
        raise InputError(f"task.path={path}: there is no such file or folder")
    found = {split: _split_files(path, split) for split in SPLITS}
    if any(found.values()):
        if not found["train"]:
            raise InputError(f"{path} has no training split: it needs train.* or a folder train; {_accepted()}")
        return {split: paths for split, paths in found.items() if paths}
    if any(child.is_dir() for child in path.iterdir()):
        return {"train": _class_files(path)}
    raise InputError(
        f"{path} holds neither files named by split (train.csv, validation.csv, test.csv) nor folders of images "
        f"named by class; {_accepted()}"
    )


def _accepted() -> str:
    return f"accepted are {' '.join(READERS)}, and {' '.join(IMAGES)} in one folder a class"


def _split_files(folder: Path, split: str) -> list[Path]:
    """Files whose name says the split; without them, the files or classes of images in a folder of that name."""
    children = [child for child in sorted(folder.iterdir()) if _split_of(child.name) == split]
    tables = [child for child in children if child.is_file() and child.suffix.lower() in READERS]
    if tables:
        return tables
    paths: list[Path] = []
    for child in filter(Path.is_dir, children):
        inside = [path for path in sorted(child.iterdir()) if path.suffix.lower() in READERS]
        paths += inside or _class_files(child)
    return paths


def _split_of(name: str) -> str | None:
    match = _NAMED.match(name.lower())
    if match is None:
        return None
    return match[1] if match[1] in SPLITS else "validation"


def _class_files(folder: Path) -> list[Path]:
    classes = [child for child in sorted(folder.iterdir()) if child.is_dir() and child.name[0] != "."]
    if not classes:
        raise InputError(f"{folder} holds no folders: images must lie in one folder a class, named by the class")
    paths = []
    for name in classes:
        inside = [path for path in sorted(name.iterdir()) if path.suffix.lower() in IMAGES]
        if not inside:
            raise InputError(f"{name} holds no images; accepted are {' '.join(IMAGES)}")
        paths += inside
    return paths


def _image_rows(paths: list[Path], task: TaskConfig) -> Part:
    from datasets import Dataset

    columns = {
        task.input: [{"bytes": None, "path": str(path)} for path in paths],
        str(task.target): [path.parent.name for path in paths],
    }
    return Part(str(paths[0].parent.parent), Dataset.from_dict(columns))


def _read_file(path: Path, task: TaskConfig) -> Part:
    from datasets import load_dataset

    reader = READERS[path.suffix.lower()]
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    options: dict[str, Any] = {}
    if reader == "csv":  # as text: the reader's guesses would make of the label 010 a 10, of the word null nothing
        converters = {name: str for name in (task.input, task.target) if name}
        options |= {"converters": converters, "keep_default_na": False}
    if reader == "text":
        options["sample_by"] = "document"
    with tempfile.TemporaryDirectory() as scratch:  # its own cache would be a second copy, outside ours
        try:
            found = load_dataset(reader, data_files=[str(path)], cache_dir=scratch, keep_in_memory=True, **options)
        except Exception as error:  # readers raise whatever their format library does
            cause = error.__cause__ or error
            reason = (str(cause).splitlines() or [type(cause).__name__])[0][:200]
            if any(sign in reason for sign in _NO_ROWS):
                raise InputError(f"{path} holds no rows") from error
            raise InputError(f"{path} can't be read as {reader}: {reason}") from error
    return Part(str(path), found["train"], typed=reader != "csv")


@contextmanager
def _quiet() -> Iterator[None]:
    """Local files are read in a moment, and their faults are told by us: no bars, no log."""
    import datasets

    logging = datasets.utils.logging
    level, bars = logging.get_verbosity(), datasets.are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if not bars:
            datasets.enable_progress_bars()
