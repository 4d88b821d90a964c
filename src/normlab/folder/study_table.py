"""The table of a study: a row a run and finding, as CSV, and what is read back from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError

KEYS = ["finding", "stage", "arm", "condition", "cell", "point", "seed", "id", "outcome", "diverged"]


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table, whole or not at all."""
    import pandas

    names = [*KEYS, *sorted({name for row in rows for name in row} - set(KEYS))]
    part = path.with_name(f".{path.name}.part")
    pandas.DataFrame(rows, columns=names).to_csv(part, index=False)
    part.replace(path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Its rows, without the entries that a run doesn't have.

    Raises:
        InputError: it is no such table; a damaged row is named by its line.
    """
    import pandas

    try:
        frame = pandas.read_csv(path, dtype={"condition": str, "cell": str, "arm": str, "id": str}, low_memory=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    missing = [name for name in KEYS if name not in frame.columns]
    if missing:
        raise InputError(f"{path} is no table of a study: it has no column {missing[0]}")
    damaged = frame.index[frame[["finding", "stage", "arm", "seed"]].isna().any(axis=1)]
    if len(damaged):
        raise InputError(f"{path}, line {damaged[0] + 2}: finding, stage, arm or seed is missing")
    rows = []
    for values in frame.to_dict("records"):
        row = {str(name): value for name, value in values.items() if value == value and value is not None}
        rows.append({**row, "condition": row.get("condition", ""), "seed": int(row["seed"])})
    return rows
