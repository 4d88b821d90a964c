"""Materialised data sets in the cache folder: read in milliseconds, checked, written atomically. Imports no torch.

One folder per data set: `meta.json` and one `.npy` file per array. A reader maps the arrays into memory, so that
processes share them, and compares their hash with the recorded one; a damaged entry counts as missing. The key of an
entry is the content of the files that it was made from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from normlab.config.names import slug
from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.config.task import decisive_options
from normlab.data import build, source
from normlab.data.fitted import Fitted
from normlab.data.material import Material
from normlab.files import decode, tables
from normlab.files.folders import SPLITS, Layout
from normlab.host.process import process_name
from normlab.views.numbers import FILLED

# NumPy parses headers as Python code. Python 3.11 may break that off with a SystemError if several threads do so at
# once and a callback of the garbage collector runs in between.
_PARSER = threading.Lock()
VERSION = 4  # version of what `build` makes from the same rows; a new number rebuilds every cache


@dataclass(frozen=True)
class Prepared:
    """A task's data.

    material     the arrays, and how they were made
    fingerprint  hash of the content
    prints       the same for each split alone, independent of the others
    notes        lines for the user about what was read and what was not
    """

    material: Material
    fingerprint: str
    prints: dict[str, str]
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """What a checkpoint must store about its data, as plain values."""
        return {"fitted": self.material.fitted.record(), "prints": self.prints, "counts": self.material.counts()}


def prepare(task: TaskConfig, cache: Path, known: Fitted | None = None) -> Prepared:
    """The task's data, from the cache or built into it.

    With a warm cache, neither datasets, pyarrow nor tokenizers is imported. If several processes need the same data,
    one builds it and the others wait.

    Args:
        task: what to read, and in which view.
        cache: the folder of all entries.
        known: what was fitted to a checkpoint's training data. Then only validation and test data are read, and nothing
            is fitted.

    Raises:
        InputError: the source can't be read, or the cache can't be written.
    """
    layout = source.layout(task, training=known is None)
    key = _key(task, layout, known)
    folder = cache / f"{slug(task.name)}-{key}"
    if (found := _read(folder)) is None:
        lock = FileLock(cache / f"{folder.name}.lock")
        with _writing(cache):
            cache.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        try:
            if (found := _read(folder)) is None:
                built = build.build(task, layout, known)
                if _key(task, layout, known) != key:
                    raise InputError(f"{source.origin(task)} changed while they were being read: try again")
                with _writing(cache):
                    _write(folder, built)
                found = _read(folder)
        finally:
            lock.release()
    assert found is not None
    if layout is None:
        return found
    made = dataclasses.replace(found.material, source=source.origin(task))  # also for the same files in other places
    notes = _notes(made, layout) if task.source == "path" else ()
    return dataclasses.replace(found, material=made, notes=notes)


@contextmanager
def _writing(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cache={cache} can't be written: {reason}. Choose another with cache=FOLDER") from error


def _key(task: TaskConfig, layout: Layout | None, known: Fitted | None) -> str:
    """The key of the content: the data options, what was fitted before, and the files or the data set."""
    fields = {
        *("goal", "source", "view", "input", "target", "pack", "hub"),
        *("max_length", "truncate", "vocabulary", "validation"),
    }
    files = _files(layout) if layout else []
    added = {"groups", "omit", "missing", "size", "ignore"}
    options = task.model_dump(mode="json", include=fields)
    options |= decisive_options(task.model_dump(mode="json", include=added))
    text = json.dumps([VERSION, options, files, known and known.record()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _files(layout: Layout) -> list[tuple[str, str, str]]:
    """Split, type and content of each file; if names say what belongs together, its path instead of its type."""
    if not layout.named:
        for path in (path for split, paths in layout.splits.items() for path in paths if split != "test"):
            tables.check_start(path)
    return [
        (split, layout.relative(path) if layout.named else "".join(path.suffixes[-2:]), _content(path))
        for kind in (layout.splits, layout.masks, layout.inner)
        for split, paths in kind.items()
        for path in paths
    ]


def _content(path: Path) -> str:
    decode.check_file(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error


def _notes(made: Material, layout: Layout) -> tuple[str, ...]:
    files = sum(len(paths) for kind in (layout.splits, layout.masks, layout.inner) for paths in kind.values())
    unit = "tokens" if made.sizes.causal else "examples"
    held = {"validation": " (held out of train)"} if made.held_out else {}
    counts = ", ".join(f"{split} {count}{held.get(split, '')}" for split, count in made.counts().items())
    classes = None if made.sizes.dense else made.fitted.classes
    known = "" if classes is None else f"; {len(classes)} classes: {', '.join(classes[:5])}{', …' * (len(classes) > 5)}"
    lines = [f"read {files} file{'s' * (files > 1)}; {unit}: {counts}{known}"]
    lines += made.said
    lines += [_done(rule, count) for rule, count in made.done.items()]
    lines += [f"the {split} split is ignored because it can't be used: {why}" for split, why in made.absent.items()]
    passed = layout.passed_over()
    return tuple(f"data: {line}" for line in [*lines, *([passed] if passed else [])])


def _done(rule: str, count: int) -> str:
    if rule == FILLED:
        return f"{count} {rule if count > 1 else rule.replace('numbers', 'number', 1)}"
    return f"{count} image{'s' * (count > 1)} {rule}"


def _hash(digest: Any, name: str, array: NDArray[Any]) -> None:
    digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
    digest.update(array.data.cast("B") if array.size else b"")


def _fingerprint(meta: dict[str, Any], fitted: Fitted, arrays: dict[str, NDArray[Any]]) -> str:
    described = {key: meta[key] for key in ("sizes", "classes", "vocabulary", "characters")} | {"source": None}
    described |= {"columns": meta["columns"]} if meta.get("columns") else {}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    everything = fitted.arrays | arrays
    for name in sorted(everything):
        _hash(digest, name, everything[name])
    return digest.hexdigest()


def _prints(arrays: dict[str, NDArray[Any]]) -> dict[str, str]:
    """A hash of each split, which doesn't depend on the padding that other splits require."""
    prints: dict[str, str] = {}
    for split in SPLITS:
        own = {name: array for name, array in arrays.items() if name.startswith(f"{split}.")}
        if (lengths := own.get(f"{split}.lengths")) is not None:
            own[f"{split}.inputs"] = np.ascontiguousarray(own[f"{split}.inputs"][:, : lengths.max()])
        digest = hashlib.sha256()
        for name in sorted(own):
            _hash(digest, name, own[name])
        prints |= {split: digest.hexdigest()} if own else {}
    return prints


def _describe(data: Material) -> dict[str, Any]:
    """A data set without its arrays, as JSON values."""
    described = {field.name: getattr(data, field.name) for field in dataclasses.fields(data) if field.name != "arrays"}
    sizes = dataclasses.asdict(data.sizes)
    # `load` computes these from the training split's arrays
    described["sizes"] = {name: value for name, value in sizes.items() if name not in ("shortest", "examples")}
    if not data.sizes.dense:  # added later: other data keep their fingerprint
        del described["sizes"]["dense"]
    described |= described.pop("fitted").record()
    described["prints"] = _prints(data.arrays)
    return json.loads(json.dumps(described))


def _checksum(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _write(folder: Path, data: Material) -> None:
    meta = _describe(data)
    arrays = {name: np.ascontiguousarray(array) for name, array in data.arrays.items()}
    for abandoned in folder.parent.glob(f"{folder.name}.*/"):  # left by a process that was killed; we hold the lock
        shutil.rmtree(abandoned)
    building = folder.with_name(
        f"{folder.name}.{process_name()}"
    )  # not mkdtemp, whose folders only this user could read
    building.mkdir()
    try:
        for name, array in arrays.items():
            np.save(building / f"{name}.npy", array)
        fingerprint = _fingerprint(meta, data.fitted, arrays)
        record = {"fingerprint": fingerprint, "meta": meta, "checksum": _checksum(meta), "arrays": sorted(arrays)}
        (building / "meta.json").write_text(json.dumps(record), encoding="utf-8")
        if folder.exists():  # damaged
            shutil.rmtree(folder)
        building.replace(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _read(folder: Path) -> Prepared | None:
    try:
        record = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        # Copy-on-write, because torch needs writable memory; nothing writes to it.
        with _PARSER:
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c") for name in record["arrays"]}
        meta, fingerprint = record["meta"], record["fingerprint"]
        fitted = Fitted.read(meta)
        if _checksum(meta) != record["checksum"] or _fingerprint(meta, fitted, arrays) != fingerprint:
            return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError):
        return None
    made = Material(
        sizes=Sizes(**{**meta["sizes"], "shape": tuple(meta["sizes"]["shape"])}),
        fitted=fitted,
        arrays=arrays,
        source=meta["source"],
        characters=meta["characters"],
        held_out=meta["held_out"],
        absent=meta["absent"],
        done=meta["done"],
        said=meta.get("said", []),
    )
    return Prepared(made, fingerprint, meta["prints"])
