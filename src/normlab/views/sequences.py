"""Sequences of different lengths: limited, and padded to one array. Imports no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import TaskConfig
from normlab.views.columns import Column

REACHED_BY = 16  # training sequences that must reach a position for it to get its own batch statistics

Arrays = dict[str, NDArray[Any]]
Sequences = list[NDArray[Any]]


def limited(task: TaskConfig, column: Column, found: Sequences, unit: str) -> Sequences:
    """The sequences, cut at `task.max_length` if `task.truncate` allows it.

    Raises:
        InputError: one is longer and must not be cut.
    """
    limit = task.max_length
    long = next((i for i, row in enumerate(found) if limit is not None and len(row) > limit), None)
    if long is not None and not task.truncate:
        needed = f"task.max_length={max(map(len, found))}, or task.truncate=true to cut longer ones"
        column.refuse(long, f"{len(found[long])} {unit}, but task.max_length={limit}; set {needed}")
    return [row[:limit] for row in found]


def packed(found: dict[str, Sequences], dtype: Any, fill: Any = 0) -> tuple[Arrays, int, int]:
    """`<split>.lengths` and `<split>.inputs`, each row padded with `fill`; the longest; and the positions.

    The positions are the time steps that at least `REACHED_BY` sequences of the training split, the first, reach.
    """
    lengths = {split: np.array([len(row) for row in rows], np.int64) for split, rows in found.items()}
    longest = int(max(each.max() for each in lengths.values()))
    arrays: Arrays = {}
    for split, rows in found.items():
        padded = np.empty((len(rows), longest, *rows[0].shape[1:]), dtype)
        padded[:] = fill
        for row, sequence in zip(padded, rows, strict=True):
            row[: len(sequence)] = sequence
        arrays |= {f"{split}.lengths": lengths[split], f"{split}.inputs": padded}
    ordered = np.sort(next(iter(lengths.values())))[::-1]
    return arrays, longest, int(ordered[min(REACHED_BY, len(ordered)) - 1])
