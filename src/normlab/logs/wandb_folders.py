"""W&B's local folders: `offline-run-…` and `run-…`, of which a run that was resumed has several.

What a run logged stands in its `.wandb` file, in LevelDB's log format
(https://github.com/google/leveldb/blob/main/doc/log_format.md) with zlib's CRC, whose records are protobuf messages of
the installed client. A folder without that file has the summary and the config as JSON and YAML.
"""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.logs.run import Run, flat, read_yaml
from normlab.mirror.wandb_access import log_record

_FOLDER = re.compile(r"(?:offline-)?run-(\d{8}_\d{6})-(.+)")
_BLOCK, _HEAD = 32768, 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def is_run(folder: Path, names: set[str]) -> bool:
    """By the names of what it holds."""
    return any(name.endswith(".wandb") for name in names) or (
        "files" in names and (folder / "files" / "wandb-summary.json").is_file()
    )


def read(folders: Sequence[Path]) -> Iterator[Run]:
    """The runs, each from all its folders in the order of time."""
    parts: dict[str, list[Path]] = {}
    for folder in sorted(folders, key=lambda folder: folder.name.removeprefix("offline-")):
        name = folder.resolve().name  # latest-run is a link
        found = _FOLDER.fullmatch(name)
        parts.setdefault(found[2] if found else str(folder), []).append(folder)
    for own in parts.values():
        run = Run(str(own[-1]))
        for folder in own:
            files = sorted(folder.glob("*.wandb"))
            if not files:
                _read_summary(folder, run)
            for file in files:
                _read_log(file, run)
        yield run


def _read_summary(folder: Path, run: Run) -> None:
    files = folder / "files"
    try:
        summary = dict(json.loads((files / "wandb-summary.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{files / 'wandb-summary.json'} can't be read: {error}") from None
    if (files / "config.yaml").is_file():
        config = read_yaml(files / "config.yaml")
        values = {key: entry.get("value") for key, entry in config.items() if isinstance(entry, dict)}
        run.facts |= flat({key: value for key, value in values.items() if key not in ("_wandb", "wandb_version")})
    for name, value in flat(summary).items():
        run.log(name, value)


def _read_log(file: Path, run: Run) -> None:
    from google.protobuf.message import DecodeError

    record_of = log_record()

    summary: dict[str, Any] = {}
    try:
        for data in _records(file):
            record = record_of.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "run":
                named = {
                    "name": record.run.display_name,
                    "group": record.run.run_group,
                    "job_type": record.run.job_type,
                }
                run.facts |= {key: value for key, value in named.items() if value}
                _configure(record.run.config, run)
            elif kind == "config":
                _configure(record.config, run)
            elif kind == "history":
                _history(record.history, run)
            elif kind == "summary":
                summary |= dict(_items(record.summary.update))
    except DecodeError:
        raise InputError(f"{file} is damaged, or was written by a version of wandb that this one can't read") from None
    for name, value in flat(summary).items():
        if name not in run.curves:  # set by hand, not logged
            run.log(name, value)


def _configure(config: Any, run: Run) -> None:
    run.facts |= {
        key: value for key, value in flat(dict(_items(config.update))).items() if not key.startswith("_wandb")
    }


def _history(history: Any, run: Run) -> None:
    for name, value in flat(dict(_items(history.item))).items():
        run.log(name, value, float(history.step.num))


def _items(items: Any) -> Iterator[tuple[str, Any]]:
    for item in items:
        name = item.key or ".".join(item.nested_key)
        if item.value_json:
            try:
                yield name, json.loads(item.value_json)
            except ValueError:
                yield name, None
        elif hasattr(item, "WhichOneof") and "integer" in item.DESCRIPTOR.fields_by_name:
            yield name, next((getattr(item, key) for key in ("integer", "number", "text") if item.HasField(key)), None)


def _records(file: Path) -> Iterator[bytes]:
    """The log's records; what a killed run left unfinished at the end is not there.

    Raises:
        InputError: the file is no such log, or damaged before its end.
    """
    size = file.stat().st_size
    with file.open("rb") as log:
        if size and log.read(_HEAD)[:4] != b":W&B":
            raise InputError(f"{file} is no log of W&B")
        parts: list[bytes] = []
        while True:
            left = _BLOCK - log.tell() % _BLOCK
            if left < _HEAD:
                log.seek(left, 1)
            head = log.read(_HEAD)
            if len(head) < _HEAD:
                return
            check, length, kind = struct.unpack("<IHB", head)
            body = log.read(length)
            if len(body) < length:
                return
            if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(body, zlib.crc32(bytes([kind]))) != check:
                if not any(head) and not any(log.read()):  # space that was reserved, and not written
                    return
                raise InputError(f"{file} is damaged: a checksum is wrong at byte {log.tell() - length}")
            parts = [*parts, body] if kind in (_MIDDLE, _LAST) else [body]
            if kind in (_FULL, _LAST):
                yield b"".join(parts)


def step_of(row: dict[str, Any]) -> float:
    """Of a row of the server's history."""
    step = row.get("_step")
    return float(step) if isinstance(step, int | float) else math.nan
