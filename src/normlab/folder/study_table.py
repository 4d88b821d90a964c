"""The table of a study, as CSV: one row per run and finding."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError

KEYS = ["finding", "stage", "arm", "condition", "cell", "point", "seed", "id", "outcome", "diverged"]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table, completely or not at all."""
    import pandas

    names = [*KEYS, *sorted({name for row in rows for name in row} - set(KEYS))]
    part = path.with_name(f".{path.name}.part")
    pandas.DataFrame(rows, columns=names).to_csv(part, index=False)
    part.replace(path)


def read_rows(path: Path, content: bytes | None = None) -> list[dict[str, Any]]:
    """Its rows, without the entries that a run doesn't have.

    Args:
        content: of the file, if that has been read already.

    Raises:
        InputError: it is not such a table, or a row is damaged; the message has its line.
    """
    import pandas

    try:
        source = path if content is None else io.BytesIO(content)
        frame = pandas.read_csv(source, dtype={"condition": str, "cell": str, "arm": str, "id": str}, low_memory=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    missing = [name for name in KEYS if name not in frame.columns]
    if missing:
        raise InputError(f"{path} is not the table of a study: it has no column {missing[0]}")
    damaged = frame.index[frame[["finding", "stage", "arm", "seed"]].isna().any(axis=1)]
    if len(damaged):
        raise InputError(f"{path}, line {damaged[0] + 2}: finding, stage, arm or seed is missing")
    return [_row(values, f"{path}, line {number}") for number, values in enumerate(frame.to_dict("records"), 2)]


def _row(values: dict[Any, Any], where: str) -> dict[str, Any]:
    row = {str(name): value for name, value in values.items() if value == value and value is not None}
    for name in ("finding", "stage"):
        if not isinstance(row[name], str):
            row[name] = str(row[name])
    return {
        **row,
        "condition": row.get("condition", ""),
        "seed": _seed(row["seed"], where),
        **({"point": _point(row["point"], where)} if "point" in row else {}),
        "diverged": _flag(row.get("diverged", False), where),
    }


def _seed(value: Any, where: str) -> int:
    try:
        seed = int(value)
        if seed == float(value) and seed >= 0:
            return seed
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{where}: seed={value} is not a whole number")


def _point(value: Any, where: str) -> float:
    try:
        point = float(value)
    except (TypeError, ValueError):
        point = math.nan
    if not math.isfinite(point):
        raise InputError(f"{where}: point={value} is not a number")
    return point


def _flag(value: Any, where: str) -> bool:
    """A truth value; also from a column of texts, to which one damaged entry turns it."""
    known = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    if (text := str(value).lower()) in known:
        return known[text]
    raise InputError(f"{where}: diverged={value} is neither True nor False")
