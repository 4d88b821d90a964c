"""What a run scored on each example of the test split, small and sealed. Imports no torch.

A record holds plain values, so that a run's file (JSON) and a study's (a record per line) have one format:

    metric    accuracy: each example is right (1) or wrong (0); loss: mean nats per token of each window of a text
    split     fingerprint of the test split
    examples  how many were tested, in the split's own order
    values    base64 of the scores: of accuracy bits, the first example in the highest; of loss float32, little-endian
    sizes     base64 of the tokens of each window, int32, little-endian; null: every example counts alike
    sha256    of all this

Ten thousand images take 1.7 kB, a thousand windows 11 kB.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.config.schema import InputError
from normlab.folder.jsonfile import parse_json, read_json, write_json

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_FIELDS = ("metric", "split", "examples", "values", "sizes")


def encode(metric: str, split: str, values: ArrayLike, sizes: ArrayLike | None = None) -> dict[str, Any]:
    """The record of scores.

    Args:
        metric: accuracy or loss.
        split: fingerprint of the test split.
        values: [examples]; of accuracy 0 or 1.
        sizes: [examples], what each counts; None: all alike.

    Raises:
        ValueError: a score is no finite number, or of accuracy neither 0 nor 1.
    """
    import numpy as np

    scores = np.asarray(values, dtype="<f4")
    if not np.isfinite(scores).all() or (metric == "accuracy" and not np.isin(scores, (0, 1)).all()):
        raise ValueError("a score is no number that it may be")
    content = np.packbits(scores.astype(bool)) if metric == "accuracy" else scores
    record = {
        "metric": metric,
        "split": split,
        "examples": len(scores),
        "values": _text(content.tobytes()),
        "sizes": None if sizes is None else _text(np.asarray(sizes, dtype="<i4").tobytes()),
    }
    return {**record, "sha256": _digest(record)}


def decode(record: Mapping[str, Any]) -> dict[str, Any]:
    """`metric`, `split`, `values` and `sizes` as `encode` took them; numbers are float64.

    Raises:
        ValueError: the record is damaged.
    """
    import numpy as np

    if any(name not in record for name in _FIELDS) or record.get("sha256") != _digest(record):
        raise ValueError("it is not what the run wrote")
    count, content = record["examples"], base64.b64decode(record["values"])
    if record["metric"] == "accuracy":
        values = np.unpackbits(np.frombuffer(content, np.uint8), count=count).astype(np.float64)
    else:
        values = np.frombuffer(content, "<f4").astype(np.float64)
    sizes = record["sizes"]
    if sizes is not None:
        sizes = np.frombuffer(base64.b64decode(sizes), "<i4").astype(np.float64)
    return {"metric": record["metric"], "split": record["split"], "values": values, "sizes": sizes}


def write_example_scores(path: Path, record: Mapping[str, Any]) -> None:
    """A run's file, whole or not at all."""
    write_json(path, dict(record))


def read_example_scores(path: Path) -> dict[str, Any]:
    """The record in a run's file; empty if there is none or it is damaged."""
    record = read_json(path)
    return record if record and record.get("sha256") == _digest(record) else {}


def write_lines(path: Path, records: Mapping[str, Mapping[str, Any]]) -> None:
    """A study's file, a line per run, whole or not at all; none if there are no records."""
    if not records:
        path.unlink(missing_ok=True)
        return
    part = path.with_name(f".{path.name}.part")
    lines = [json.dumps({"id": run, **record}) + "\n" for run, record in records.items()]
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(path)


def read_lines(path: Path) -> dict[str, dict[str, Any]]:
    """Run → record of a study's file; empty if there is none.

    Raises:
        InputError: a line is damaged; without it a verdict would be about fewer runs, or about seeds alone.
    """
    if not path.exists():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = parse_json(line)
        except ValueError:
            record = {}
        run = record.pop("id", None)
        if not isinstance(run, str) or record.get("sha256") != _digest(record):
            raise InputError(f"{path}, line {number} is damaged: restore the file, or repeat the study's command")
        found[run] = record
    return found


def _digest(record: Mapping[str, Any]) -> str:
    values = [record.get(name) for name in _FIELDS]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def decode_each(records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The scores of several runs, by run."""
    return {run: decode(record) for run, record in records.items()}
