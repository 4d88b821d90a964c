"""A table of runs: CSV, Parquet, or JSON with a line per run."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from normlab.config.schema import InputError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

SUFFIXES = (".csv", ".parquet", ".jsonl")


class Table:
    """See `Runs`: a row is a run, and an empty value of the metric a run that failed.

    Raises:
        InputError: there are no rows, or two columns of one name.
    """

    key = "column"

    def __init__(self, file: str, rows: DataFrame) -> None:
        names = [str(name) for name in rows.columns]
        if len(set(names)) < len(names):
            raise InputError(f"{file} has several columns of one name: rename all but one")
        if not len(rows):
            raise InputError(f"{file} holds no runs")
        self.file, self.facts = file, rows.set_axis(names, axis=1)

    def metrics(self) -> list[str]:
        """Columns of numbers with a fraction."""
        return [name for name in self.columns() if self.facts[name].dtype.kind == "f"]

    def columns(self) -> list[str]:
        """All of them."""
        return list(self.facts.columns)

    def values(self, metric: str, at: str) -> Series:
        """A column."""
        return self.facts[metric]

    def place(self, row: int) -> str:
        """`runs.csv, row 3`; a header is not counted."""
        return f"{self.file}, row {row + 1}"

    def ends(self, metric: str) -> list[float]:
        """A row has no curve."""
        return []


def read(path: Path) -> Table:
    """A file.

    Raises:
        InputError: it can't be read.
    """
    return Table(str(path), _rows(path))


def _separator(path: Path) -> str:
    """Comma, semicolon or tab, whichever the header has most of.

    Raises:
        InputError: the file is no text, or two columns have one name, of which pandas would rename one.
    """
    with path.open("rb") as file:
        start = file.readline(1 << 20)
    if b"\0" in start:
        raise InputError(f"{path} is no text, so no CSV")
    header = start.decode("utf-8-sig", errors="replace")
    separator = max(",;\t", key=header.count)
    names = next(csv.reader([header], delimiter=separator), [])
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path} has {names.count(twice)} columns {twice!r}: rename all but one")
    return separator


def _rows(path: Path) -> DataFrame:
    import pandas

    try:
        if path.suffix == ".csv":
            return pandas.read_csv(path, sep=_separator(path))
        if path.suffix == ".parquet":
            return pandas.read_parquet(path).reset_index(drop=True)
        return pandas.read_json(path, lines=True, precise_float=True)
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install pyarrow, or export the runs as CSV") from None
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path} can't be read: {' '.join(str(error).split())[:200]}") from None
