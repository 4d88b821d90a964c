"""The files in a user's folder: which belong to which split and class, and which are ignored."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from normlab.config.schema import InputError
from normlab.files import tables

IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp", ".tif", ".tiff"),
    *(".pbm", ".pgm", ".ppm"),
)
SPLITS = ("train", "validation", "test")
_SPLIT_NAMES = {
    **{"train": "train", "training": "train"},
    **{"validation": "validation", "valid": "validation", "val": "validation", "dev": "validation"},
    **{"test": "test", "testing": "test"},
}
_SPLIT_COLUMNS = ("split", "splits", "subset", "set", "partition", "fold", "usage", "data_split", "mode", "phase")
_OF_SYSTEMS = ("__macosx", "thumbs.db", "desktop.ini")
_ABOUT = ("readme", "license", "licence", "notice", "citation", "changelog")


@dataclass
class Layout:
    """The files found at a path.

    root    the folder, or the one that holds the file
    splits  the files of each split, in order
    labels  the class of each image, if folders name the classes
    masks   the mask of each image, for segmentation
    inner   further files that the tables of a split name, and that are part of the data
    passed  files that are ignored
    """

    root: Path
    splits: dict[str, list[Path]] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    masks: dict[str, list[Path]] = field(default_factory=dict)
    inner: dict[str, list[Path]] = field(default_factory=dict)
    passed: list[Path] = field(default_factory=list)

    @property
    def named(self) -> bool:
        """Do names of files and folders say what belongs together?"""
        return bool(self.labels or self.masks)

    def relative(self, path: Path) -> str:
        """A file's name within the root, the same on every system."""
        return path.relative_to(self.root).as_posix()

    def passed_over(self) -> str | None:
        """A line about the ignored files, if there are any."""
        if not self.passed:
            return None
        names = ", ".join(self.relative(path) for path in self.passed[:3])
        more = ", …" if len(self.passed) > 3 else ""
        return f"ignored {len(self.passed)} file{'s'[: len(self.passed) > 1]}: {names}{more}"


def find(path: Path, *, pictures: bool, training: bool = True) -> Layout:
    """Find the files at a path, by split. Reads none of them.

    Args:
        path: a table, a folder of tables named by split, or a folder of images by class.
        pictures: the task is about images: its tables are Parquet, and folders may name classes.
        training: a training split is needed.

    Raises:
        InputError: there is nothing that can be read, or it is unclear what is a split and what a class.
    """
    try:
        if not path.is_dir():
            return _single(path, pictures)
        layout = Layout(path)
        folders, files = _children(path, layout)
        _add_tables(layout, folders, files, pictures)
        if layout.splits:
            layout.passed += _rest(folders, layout)
        elif pictures:
            _add_images(layout, folders)
            layout.passed += files
    except OSError as error:
        raise InputError(f"task.path={path} can't be read: {error.filename}: {error.strerror}") from error
    if not layout.splits:
        raise InputError(
            f"{path} has neither files named after splits (train.csv, validation.csv, test.csv) nor folders of "
            f"images named after classes; {accepted(pictures)}"
        )
    if training and "train" not in layout.splits:
        raise InputError(f"{path} has no training split: add train.* or a folder named train; {accepted(pictures)}")
    layout.splits = {split: layout.splits[split] for split in SPLITS if split in layout.splits}
    layout.passed = sorted(set(layout.passed))
    return layout


def accepted(pictures: bool) -> str:
    """Which files a task can read, for messages."""
    if pictures:
        return f"accepted are .parquet, and {' '.join(IMAGES)} in one folder per class"
    return f"accepted are {' '.join(tables.KINDS)}, all but .parquet also with .gz"


def _single(path: Path, pictures: bool) -> Layout:
    if not path.exists():
        hint = "; only the shell expands $" if "$" in str(path) else ""
        raise InputError(f"task.path={path}: there is no such file or folder{hint}")
    if tables.kind(path) is None or (pictures and tables.kind(path) != "parquet"):
        raise InputError(f"{path}: files of type {path.suffix!r} can't be read; {accepted(pictures)}")
    return Layout(path.parent, {"train": [path]})


def _children(folder: Path, layout: Layout) -> tuple[list[Path], list[Path]]:
    """Folders and files, sorted; files that operating systems create are ignored.

    Raises:
        InputError: the target of a link doesn't exist.
    """
    folders, files = [], []
    for child in sorted(folder.iterdir()):
        if child.name.startswith(".") or child.name.lower() in _OF_SYSTEMS:
            layout.passed += [child] if not child.is_dir() else _everything(child)
        elif child.is_dir():
            folders.append(child)
        elif child.is_symlink() and not child.exists():
            raise InputError(
                f"{child} is a link to {child.readlink()}, which does not exist: restore the target or remove the link"
            )
        else:
            files.append(child)
    return folders, files


def _everything(folder: Path) -> list[Path]:
    return [Path(where) / name for where, _, names in os.walk(folder) for name in sorted(names)]


def below(folder: Path, layout: Layout, above: tuple[Path, ...] = ()) -> list[Path]:
    """All files below a folder, those of the folder itself first; links to folders are followed.

    Raises:
        InputError: links form a circle.
    """
    real = folder.resolve()
    if real in above:
        raise InputError(f"{folder} is a link to a folder that contains it")
    folders, files = _children(folder, layout)
    return files + [path for child in folders for path in below(child, layout, (*above, real))]


def _rest(folders: list[Path], layout: Layout) -> list[Path]:
    used = {path for paths in layout.splits.values() for path in paths}
    return [path for folder in folders for path in _everything(folder) if path not in used]


def folder_split(name: str) -> str | None:
    """The split that a folder is named after."""
    return _SPLIT_NAMES.get(name.lower())


def told_apart(layout: Layout) -> list[str]:
    """A sentence about a column of a lone table that names splits, which are taken from files only."""
    paths = layout.splits.get("train", [])
    if len(layout.splits) > 1 or len(paths) != 1 or layout.named or tables.kind(paths[0]) in ("text", None):
        return []
    for name in tables.columns_of(paths[0]):
        if name.strip().lower() in _SPLIT_COLUMNS:
            with suppress(InputError):  # of a column that is there twice, and that nobody asked for
                values = tables.read_table(paths[0], {name: "input"}).values[name]
                found = Counter(folder_split(str(value).strip()) for value in values)
                if len(found) > 1 and None not in found:
                    counts = ", ".join(f"{split} {count}" for split, count in found.items())
                    return [
                        f"the column {name!r} names splits ({counts}), and is not heeded: rows of all are trained on. "
                        "Splits are files, train.csv and test.csv in one folder"
                    ]
    return []


def _table_split(path: Path) -> str | None:
    words = re.findall("[a-z]+", tables.stem(path).lower())
    found = sorted({_SPLIT_NAMES[word] for word in words if word in _SPLIT_NAMES})
    if len(found) > 1:
        raise InputError(f"{path}: the name says {' and '.join(found)}; rename it so that it names one split")
    return found[0] if found else None


def _add_tables(layout: Layout, folders: list[Path], files: list[Path], pictures: bool) -> None:
    """Add the files whose names contain a split, and those in folders with its name."""
    placed = [(path, _table_split(path)) for path in files if _is_table(path, pictures)]
    for folder in folders:
        if split := folder_split(folder.name):
            placed += [(path, split) for path in below(folder, Layout(layout.root)) if _is_table(path, pictures)]
    for path, split in placed:
        if split:
            layout.splits.setdefault(split, []).append(path)
    for paths in layout.splits.values():
        _check_copies(paths)
    if layout.splits:
        layout.passed += [path for path in files if path not in {p for ps in layout.splits.values() for p in ps}]


def _is_table(path: Path, pictures: bool) -> bool:
    about = tables.stem(path).lower().startswith(_ABOUT)
    kind = tables.kind(path)
    return kind == "parquet" if pictures else kind is not None and not about


def _check_copies(paths: list[Path]) -> None:
    """Refuse the same table in two formats, because its rows would count twice."""
    seen: dict[Path, Path] = {}
    for path in paths:
        other = seen.setdefault(path.with_name(tables.stem(path)), path)
        if other != path:
            raise InputError(f"{other} and {path.name} look like the same table in two formats: remove or rename one")


def _add_images(layout: Layout, folders: list[Path]) -> None:
    """Add images by class, from folders named after splits if there are any.

    Folders are splits only if all folders with images are named like splits and contain folders, so that a class may
    be called train.

    Raises:
        InputError: it is unclear what is a split and what a class.
    """
    holds = {folder: _holds(folder) for folder in folders}
    splits = [folder for folder in folders if folder_split(folder.name)]
    nested = [folder for folder in splits if holds[folder] == "folders"]
    others = [folder for folder in folders if folder not in nested and holds[folder] != "nothing"]
    if splits and not [folder for folder in others if folder not in splits] and (nested or others):
        for folder in others:
            raise InputError(
                f"{folder} has no folders in it: put the images of each class into "
                "a folder with the class's name, inside "
                "a folder with the split's name"
            )
    elif nested:
        other = next(folder.name for folder in others if folder not in splits)
        raise InputError(
            f"is {nested[0]} a split or a class? It is named like a split and contains folders, but {other} next to it "
            "isn't named like one. If it is a split, leave only folders named train, validation and test there; if it "
            "is a class, put all images directly into the folders of their classes"
        )
    if nested:
        for folder in nested:
            _add_classes(layout, str(folder_split(folder.name)), folder)
        layout.passed += [path for folder in folders if folder not in nested for path in _everything(folder)]
    elif folders:
        _add_classes(layout, "train", layout.root)


def _holds(folder: Path) -> str:
    """`images` if the folder contains images, `folders` if its folders do, otherwise `nothing`."""
    ignored = Layout(folder)
    folders, files = _children(folder, ignored)
    if any(map(is_image, files)):
        return "images"
    return "folders" if any(is_image(path) for child in folders for path in below(child, ignored)) else "nothing"


def is_image(path: Path) -> bool:
    """Is the file named like an image?"""
    return path.suffix.lower() in IMAGES


def _add_classes(layout: Layout, split: str, folder: Path) -> None:
    classes, files = _children(folder, layout)
    if folder != layout.root:
        layout.passed += files
    for child in classes:
        found = below(child, layout)
        inside = [path for path in found if is_image(path)]
        layout.passed += [path for path in found if not is_image(path)]
        if not inside:
            raise InputError(f"{child} contains no images; accepted are {' '.join(IMAGES)}")
        splits = {path.relative_to(child).parts[0] for path in inside if len(path.relative_to(child).parts) > 1}
        if wrong := sorted(name for name in splits if folder_split(name)):
            raise InputError(
                f"{child / wrong[0]}: split folders must contain the class folders, as in {wrong[0]}/{child.name}"
            )
        layout.splits.setdefault(split, []).extend(inside)
        layout.labels.setdefault(split, []).extend([unicodedata.normalize("NFC", child.name)] * len(inside))
