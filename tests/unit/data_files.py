"""Small data sets on disk, for the tests of the data room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from normlab.config.schema import TaskConfig


def task(path: Path | None = None, **options: Any) -> TaskConfig:
    """A classification task of the user's own text files, unless `options` say otherwise."""
    given: dict[str, Any] = {
        "name": "mine",
        "goal": "classification",
        "source": "path",
        "view": "characters",
        "input": "text",
        "target": "label",
        "path": None if path is None else str(path),
        "batch_size": 4,
        "epochs": 1,
    }
    return TaskConfig(**{**given, **options})


def language(path: Path, **options: Any) -> TaskConfig:
    return task(path, **{"goal": "language_modelling", "target": None, "max_length": 4, **options})


def images(path: Path, **options: Any) -> TaskConfig:
    return task(path, **{"view": "images", "input": "image", **options})


def parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def splits(folder: Path, **options: Any) -> Path:
    """A folder with six training texts, two for validation and two for test, of two classes."""
    parquet(folder / "train.parquet", text=["ab", "b", "abc", "cab", "a", "bb"], label=["x", "y"] * 3)
    parquet(folder / "validation.parquet", text=["a", "zb"], label=["x", "y"])
    parquet(folder / "test.parquet", text=["cc", "a"], label=["y", "x"])
    return folder


def raw_images(count: int, seed: int = 0) -> list[bytes]:
    """Grey images of 4 x 4 pixels as raw bytes."""
    return [image.tobytes() for image in np.random.default_rng(seed).integers(0, 256, (count, 16), np.uint8)]


def image_splits(folder: Path, count: int = 20) -> Path:
    for seed, split in enumerate(("train", "validation", "test")):
        labels = [i % 3 for i in range(count)]
        parquet(folder / f"{split}.parquet", image=pa.array(raw_images(count, seed), pa.binary(16)), label=labels)
    return folder
