"""NumPy's .npz files: one array per column, whose first axis is the row. Pickles are never read."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normlab.config.schema import InputError
from normlab.files.part import Asked, Part, check_columns

LENGTHS = "lengths"  # the array that says how long each padded row is


def names(path: Path) -> list[str]:
    """The names of the arrays."""
    with _opened(path) as file:
        return list(file.files)


def read(path: Path, asked: Asked) -> Part:
    """The requested arrays, row by row. An array `lengths` cuts the rows of the inputs, which must be padded.

    Raises:
        InputError: the file is damaged, lacks an array, or its arrays differ in their number of rows.
    """
    with _opened(path) as file:
        check_columns(path, asked, file.files)
        found: dict[str, NDArray[Any]] = {name: file[name] for name in asked}
        lengths = file[LENGTHS] if LENGTHS in file.files and LENGTHS not in asked else None
    for name, array in found.items():
        if not array.ndim:
            raise InputError(f"{path}: array {name!r} is a single value; its first axis must be the row")
    counts = {name: len(array) for name, array in found.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"{path}: its arrays have different numbers of rows: {counts}")
    values = {name: array.tolist() if array.ndim == 1 else list(array) for name, array in found.items()}
    if lengths is not None:
        _check_lengths(path, lengths, next(iter(counts.values())))
        for name, option in asked.items():
            if option == "input" and found[name].ndim > 1:
                if int(lengths.max()) > found[name].shape[1]:
                    raise InputError(
                        f"{path}: a length is {lengths.max()}, and {name!r} has {found[name].shape[1]} steps"
                    )
                values[name] = [row[:length] for row, length in zip(values[name], lengths.tolist(), strict=True)]
    return Part(str(path), values)


def _check_lengths(path: Path, lengths: NDArray[Any], rows: int) -> None:
    if lengths.shape != (rows,) or lengths.dtype.kind not in "iu" or (rows and int(lengths.min()) < 1):
        raise InputError(f"{path}: {LENGTHS!r} must have a whole number from 1 for each of the {rows} rows")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if not hasattr(file, "files"):
                raise InputError(f"{path} is a single array, not an .npz file")
            yield file
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        reason = "an array holds Python objects; save it padded, with an array named lengths" * ("pickle" in str(error))
        raise InputError(f"{path} can't be read as npz: {reason or str(error)[:200]}") from None
