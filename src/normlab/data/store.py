"""Materialised data sets in the cache folder: read in milliseconds, checked, written atomically. Imports no torch.

One folder a data set: `meta.json` and one `.npy` file an array. A reader maps the arrays into memory, so that many
processes share them, and compares their hash with the recorded one: a damaged entry counts as absent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from normlab.config.names import slug
from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.data import material, source
from normlab.data.material import Material
from normlab.data.text import Vocabulary

VERSION = 1  # of what `material.build` makes of the same rows; a new number rebuilds every cache


def prepare(task: TaskConfig, cache: Path) -> tuple[Material, str]:
    """The task's data and its fingerprint (a hash of the content), from the cache or built into it.

    With a warm cache neither `datasets`, `pyarrow` nor `tokenizers` is imported. Processes that need the same
    data build it once: the others wait.

    Raises:
        InputError: the source can't be read, or the cache can't be written.
    """
    folder = cache / f"{slug(task.name)}-{_key(task)}"
    if (found := _read(folder)) is not None:
        return found
    lock = FileLock(cache / f"{folder.name}.lock")
    with _writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        if (found := _read(folder)) is None:
            built = material.build(task)
            with _writing(cache):
                _write(folder, built)
            found = _read(folder)
    finally:
        lock.release()
    assert found is not None
    return found


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cache={cache} can't be written: {reason}. Choose another with cache=FOLDER") from error


def _key(task: TaskConfig) -> str:
    """What decides the content: the data options, and which files (by size and time) or which data set."""
    fields = {
        *("goal", "source", "view", "input", "target", "pack", "hub"),
        *("max_length", "truncate", "vocabulary", "validation"),
    }
    stats = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for paths in source.files(task).values()
        for path in paths
    ]
    text = json.dumps([VERSION, task.model_dump(include=fields), stats], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _fingerprint(meta: dict[str, Any], arrays: dict[str, NDArray]) -> str:
    digest = hashlib.sha256(json.dumps({**meta, "source": None}, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(arrays[name].data.cast("B") if arrays[name].size else b"")
    return digest.hexdigest()


def _describe(data: Material) -> dict[str, Any]:
    """All of a data set but its arrays, as JSON holds it."""
    described = {field.name: getattr(data, field.name) for field in dataclasses.fields(data) if field.name != "arrays"}
    described["sizes"] = dataclasses.asdict(data.sizes)
    described["vocabulary"] = data.vocabulary and dataclasses.asdict(data.vocabulary)
    return json.loads(json.dumps(described))


def _write(folder: Path, data: Material) -> None:
    meta = _describe(data)
    arrays = {name: np.ascontiguousarray(array) for name, array in data.arrays.items()}
    for abandoned in folder.parent.glob(f"{folder.name}.*/"):  # by a process that was killed; we hold the lock
        shutil.rmtree(abandoned)
    building = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(building / f"{name}.npy", array)
        record = {"fingerprint": _fingerprint(meta, arrays), "meta": meta, "arrays": sorted(arrays)}
        (building / "meta.json").write_text(json.dumps(record), encoding="utf-8")
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        building.replace(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _read(folder: Path) -> tuple[Material, str] | None:
    try:
        record = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        # Copy-on-write, as torch wants memory that may be written; nothing writes to it.
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in record["arrays"]}
        meta, fingerprint = record["meta"], record["fingerprint"]
        if _fingerprint(meta, arrays) != fingerprint:
            return None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    sizes = Sizes(**{**meta["sizes"], "shape": tuple(meta["sizes"]["shape"])})
    words = meta["vocabulary"]
    return Material(
        sizes=sizes,
        arrays=arrays,
        source=meta["source"],
        classes=meta["classes"] and tuple(meta["classes"]),
        vocabulary=words and Vocabulary(tuple(words["pieces"]), words["joiner"]),
        characters=meta["characters"],
    ), fingerprint
