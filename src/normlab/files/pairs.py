"""Images and their masks in folders: which mask belongs to which image."""

from __future__ import annotations

import re
from pathlib import Path

from normlab.config.schema import InputError
from normlab.files.folders import SPLITS, Layout, below, folder_split, is_image


def holds_pairs(path: Path) -> bool:
    """Is it a folder of image files, and not a table or a folder of tables?"""
    return path.is_dir() and not any(child.suffix.lower() == ".parquet" for child in path.iterdir())


def find_pairs(path: Path, images: str, masks: str, *, training: bool = True) -> Layout:
    """Find images and masks, by split. Reads none of them.

    Paths of an image and its mask differ only in what `images` and `masks` say: a folder, in which every image
    counts, or a pattern such as `masks/*_mask`, where * stands for what both names share. Splits are folders named
    train, validation and test, above or within these folders.

    Raises:
        InputError: a folder is missing, or an image has no mask, or a mask no image.
    """
    layout = Layout(path)
    try:
        children = [child for child in sorted(path.iterdir()) if child.is_dir() and folder_split(child.name)]
        if children:
            for child in children:
                _add(layout, str(folder_split(child.name)), _matched(layout, child, images, masks))
        else:
            _add_inner(layout, _matched(layout, path, images, masks))
    except OSError as error:
        raise InputError(f"task.path={path} can't be read: {error.filename}: {error.strerror}") from error
    if training and "train" not in layout.splits:
        raise InputError(f"{path} has no training split: add a folder named train")
    layout.splits = {split: layout.splits[split] for split in SPLITS if split in layout.splits}
    layout.passed = sorted(set(layout.passed))
    return layout


Pairs = dict[str, tuple[Path, Path]]  # what both names share → image and mask


def _add(layout: Layout, split: str, pairs: Pairs) -> None:
    layout.splits.setdefault(split, []).extend(image for image, _ in pairs.values())
    layout.masks.setdefault(split, []).extend(mask for _, mask in pairs.values())


def _add_inner(layout: Layout, pairs: Pairs) -> None:
    """Splits within the folders, as in images/train; all is training if they are not named so."""
    named = {key: folder_split(key.partition("/")[0]) if "/" in key else None for key in pairs}
    for key, pair in pairs.items():
        _add(layout, str(named[key]) if all(named.values()) else "train", {key: pair})


def _matched(layout: Layout, base: Path, images: str, masks: str) -> Pairs:
    of_masks = _found(layout, base, masks, "target")
    of_images = {key: path for key, path in _found(layout, base, images, "input").items() if path not in _all(of_masks)}
    for key, image in of_images.items():
        if key not in of_masks:
            raise InputError(f"{image} has no mask: task.target={masks} has none of that name in {base}")
    for key, mask in of_masks.items():
        if key not in of_images:
            raise InputError(f"{mask} has no image: task.input={images} has none of that name in {base}")
    if not of_images:
        raise InputError(f"{base} has no images in {images}")
    return {key: (image, of_masks[key]) for key, image in sorted(of_images.items())}


def _all(found: dict[str, Path]) -> set[Path]:
    return set(found.values())


def _found(layout: Layout, base: Path, pattern: str, option: str) -> dict[str, Path]:
    """The part of the name that * matches, after the folder → the file."""
    parent, _, name = pattern.rpartition("/") if "*" in pattern else (pattern, "", "*")
    folder = base / parent if parent not in ("", ".") else base
    if not folder.is_dir():
        has = ", ".join(sorted(child.name for child in base.iterdir() if child.is_dir())) or "none"
        raise InputError(
            f"{base} has no folder {parent!r}; its folders: {has}. Set task.{option} to the folder, or to a pattern "
            "such as masks/*_mask"
        )
    before, _, after = name.partition("*")
    wanted = re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)
    found: dict[str, Path] = {}
    for path in below(folder, layout):
        match = wanted.fullmatch(path.name if "." in after else path.stem) if is_image(path) else None
        if match is None:
            layout.passed += [path] if not is_image(path) else []
            continue
        key = (path.parent.relative_to(folder) / match[1]).as_posix()
        if (other := found.setdefault(key, path)) != path:
            raise InputError(f"{other} and {path.name} differ only in the ending of their names: remove or rename one")
    return found
