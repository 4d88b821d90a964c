"""Data that a user has in Python, as the files of a task. Imports no torch: it knows tensors by their methods.

Each split is a pair (inputs, targets). The axes of the inputs tell what they are: [N, F] rows of a table, [N, T, F]
time series, [N, C, H, W] images.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from normlab.comparing.examples import Pair, is_array, is_dataset, pair_of
from normlab.comparing.written import write_once
from normlab.config.errors import InputError
from normlab.files.folders import find, folder_split, is_image
from normlab.files.tables import columns_of, kind

_SPLITS = ("train", "validation", "test")


def task_of(data: Any, folder: Path) -> dict[str, Any]:
    """The options of the task that reads the data, which are written into `folder` unless they are files.

    Args:
        data: a task's name, or its options; a path; (inputs, targets); a table of pandas; a data set or a loader of
            torch, or two for training and validation; a LightningDataModule; or a mapping of such by split.

    Raises:
        InputError: they are none of these, or can't be written without loss.
    """
    if isinstance(data, str | Path):
        return _path(Path(data)) if Path(data).expanduser().exists() else _named(str(data))
    if isinstance(data, Mapping) and "task" in data:
        return dict(data)
    if hasattr(data, "to_parquet"):
        return _frames({"train": data}, folder)
    splits = _splits(data)
    if all(hasattr(one, "to_parquet") for one in splits.values()):
        return _frames(splits, folder)
    if any(hasattr(one, "to_parquet") for one in splits.values()):
        raise InputError(f"data: {', '.join(splits)} are of different kinds: give all of them as tables")
    return _written({name: pair_of(name, one) for name, one in splits.items()}, folder)


def _named(name: str) -> dict[str, Any]:
    if "/" in name or kind(Path(name)) is not None:
        raise InputError(f"data={name!r}: there is no such file or folder")
    return {"task": name}


def _path(path: Path) -> dict[str, Any]:
    """The task by the files: images with masks, images by class, or the columns of a table."""
    found = path.expanduser()
    if found.is_dir():
        inside = [child for child in found.iterdir() if child.is_dir()]
        halves = [one for one in inside if folder_split(one.name)] or [found]
        if all((half / "images").is_dir() and (half / "masks").is_dir() for half in halves):
            return {"task": "segmentation_files", "task.path": str(path)}
        if any(is_image(file) for child in inside for file in child.rglob("*")):
            return {"task": "image_files", "task.path": str(path)}
        table = find(found, pictures=False).splits["train"][0]
    else:
        table = found
    if kind(table) is None:
        raise InputError(f"data={str(path)!r}: files of type {path.suffix!r} can't be read; a task says what data are")
    columns = [] if kind(table) == "text" else columns_of(table)
    if {"image", "mask"} <= {*columns}:
        return {"task": "segmentation_files", "task.path": str(path), "task.input": "image", "task.target": "mask"}
    known = {"image": "image_files", "series": "series_files", "text": "text_files"}
    return {
        "task": next((task for name, task in known.items() if name in columns), "table_files"),
        "task.path": str(path),
    }


def _splits(data: Any) -> dict[str, Any]:
    """Training data, and validation and test data if there are any."""
    if hasattr(data, "train_dataloader"):
        data.prepare_data()
        data.setup("fit")
        return {"train": data.train_dataloader(), "validation": data.val_dataloader()}
    if isinstance(data, Mapping):
        if "train" not in data or not {*data} <= {*_SPLITS}:
            there = ", ".join(map(str, data))
            raise InputError(f"data has {there}: give train, and if you like validation and test, or name a task")
        return dict(data)
    if isinstance(data, tuple | list) and len(data) in (2, 3) and all(map(_is_split, data)):
        return dict(zip(_SPLITS, data, strict=False))
    return {"train": data}


def _is_split(value: Any) -> bool:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(map(is_array, value))
    return pair or hasattr(value, "to_parquet") or is_dataset(value)


def _written(splits: dict[str, Pair], folder: Path) -> dict[str, Any]:
    inputs, targets = splits["train"]
    digest = hashlib.sha256()
    for name, pair in splits.items():
        for array in pair:
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    place = folder / f"data_{digest.hexdigest()[:12]}"
    number = targets.dtype.kind == "f"
    if inputs.ndim == 2:
        _tables(place, {name: (x, y) for name, (x, y) in splits.items()})
        goal = {"task.goal": "regression" if number else "classification"}
        return {"task": "table_files", "task.path": str(place), "task.target": "label", **goal}
    goal = {"task.goal": "regression"} if number else {}
    if inputs.ndim == 3 and inputs.dtype != np.uint8:
        for name, (x, y) in splits.items():
            write_once(place / f"{name}.npz", partial(np.savez, series=x, label=y))
        return {"task": "series_files", "task.path": str(place), **goal}
    kinds = {"real" if x.dtype.kind == "f" else "whole" for x, _ in splits.values()}
    if len(kinds) > 1:
        types = ", ".join(f"{name} {x.dtype}" for name, (x, _) in splits.items())
        raise InputError(
            f"data: images of {types}: real numbers go from 0 to 1 and whole ones to 255, so give one type"
        )
    pixels = {name: (_pixels(name, x), y) for name, (x, y) in splits.items()}
    _images(place, pixels)
    if targets.ndim == 3:
        return {"task": "segmentation_files", "task.path": str(place), "task.input": "image", "task.target": "label"}
    return {"task": "image_files", "task.path": str(place), **goal}


def _tables(place: Path, splits: dict[str, Pair]) -> None:
    import pyarrow
    import pyarrow.parquet as pq

    for name, (x, y) in splits.items():
        columns = {f"x{index}": x[:, index] for index in range(x.shape[1])}
        table = pyarrow.table({**columns, "label": y})
        write_once(place / f"{name}.parquet", partial(pq.write_table, table))


def _images(place: Path, splits: dict[str, Pair]) -> None:
    import pyarrow
    import pyarrow.parquet as pq

    for name, (x, y) in splits.items():
        labels: Any = [_png(_mask(mask)) for mask in y] if y.ndim == 3 else y
        table = pyarrow.table({"image": [_png(image) for image in x], "label": labels})
        write_once(place / f"{name}.parquet", partial(pq.write_table, table))


def _mask(mask: NDArray[Any]) -> NDArray[np.uint8]:
    if mask.dtype.kind not in "iub" or mask.min() < 0 or mask.max() > 255:
        raise InputError(f"data: a mask has values from {mask.min()} to {mask.max()}; they are classes from 0 to 255")
    return mask.astype(np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    plain = pixels if pixels.ndim == 2 else pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(plain)).save(file, format="png")
    return file.getvalue()


def _pixels(split: str, x: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8 [N, C, H, W] with one or three channels, if nothing is lost.

    Raises:
        InputError: something would be.
    """
    x = x[:, None] if x.ndim == 3 else x
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise InputError(
            f"data: inputs of shape {list(x.shape)} in {split}: give [N, F] for tables, [N, T, F] for series, and "
            "[N, C, H, W] with one or three channels for images; others can train in a Lightning project, project=..."
        )
    if x.dtype == np.uint8:
        return x
    levels = x.astype(np.float64) * (255 if x.dtype.kind == "f" else 1)
    whole = np.rint(levels)
    if not np.isfinite(levels).all() or np.abs(levels - whole).max() > 1e-3 or whole.min() < 0 or whole.max() > 255:
        raise InputError(
            f"data: images of {split} have values from {x.min():g} to {x.max():g} that are no pixels of 8 bits: give "
            "uint8, or what ToTensor gives, before Normalize (normlab standardises by the training split), or train a "
            "Lightning project, with project=..."
        )
    return whole.astype(np.uint8)


def _frames(splits: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tables of pandas, or data sets of the Hugging Face libraries."""
    names = [
        [str(name) for name in getattr(frame, "column_names", getattr(frame, "columns", ()))]
        for frame in splits.values()
    ]
    if any({*each} != {*names[0]} for each in names):
        each = "; ".join(f"{split}: {', '.join(own)[:80]}" for split, own in zip(splits, names, strict=True))
        raise InputError(
            f"data: the tables have different columns ({each}); each split is one table, with the target as a column"
        )
    digest = hashlib.sha256()
    files = {}
    for name, frame in splits.items():
        if not len(frame):
            raise InputError(f"data: {name} is empty")
        file = io.BytesIO()
        try:
            frame.to_parquet(file, **({"index": False} if hasattr(frame, "iloc") else {}))
        except (ValueError, TypeError, NotImplementedError) as error:  # as pyarrow's own errors are
            reason = str(error.args[0] if error.args else error).splitlines()[0]
            where = f" ({error.args[1]})" if len(error.args) > 1 else ""
            raise InputError(f"data: the table of {name} can't be written as Parquet: {reason}{where}") from None
        files[name] = file.getvalue()
        digest.update(name.encode() + files[name])
    place = folder / f"data_{digest.hexdigest()[:12]}"
    for name, content in files.items():
        write_once(place / f"{name}.parquet", partial(_put, content))
    return {**_path(place), "task.path": str(place)}


def _put(content: bytes, file: BinaryIO) -> None:
    file.write(content)
