"""A table of runs: CSV, Parquet, or JSON, one row or object per run."""

from __future__ import annotations

import csv
import math
import re
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.config.schema import InputError
from normlab.files import decode
from normlab.files.tables import kind, objects, read_table
from normlab.logs.run import flat

if TYPE_CHECKING:
    from pandas import DataFrame, Series

KINDS = ("csv", "json", "parquet")
SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".json")  # as messages name them
_WHOLE = re.compile("-?[0-9]+")
_GAPS = ("", "nan", "na", "n/a", "<na>", "null", "none", "#n/a")  # of a metric, in lower case


class Table:
    """See `Runs`: a row is a run, and an empty value of the metric a run that failed.

    Raises:
        InputError: there are no rows, or two columns of one name.
    """

    key = "column"

    def __init__(self, file: str, rows: DataFrame) -> None:
        names = [str(name) for name in rows.columns]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise InputError(f"{file} has {names.count(twice)} columns {twice!r}: rename all but one")
        if not len(rows):
            raise InputError(f"{file} holds no runs")
        self.file, self.facts = file, rows.set_axis(names, axis=1)
        self._numbers: dict[str, Series] = {}  # of columns that have been asked for

    def metrics(self) -> list[str]:
        """Columns of numbers with a fraction."""
        return [name for name in self.columns() if self.values(name, "last").dtype.kind == "f"]

    def columns(self) -> list[str]:
        """All of them."""
        return list(self.facts.columns)

    def values(self, metric: str, at: str) -> Series:
        """A column; its texts as numbers if all of them are."""
        if metric not in self._numbers:
            self._numbers[metric] = _numbers(self.facts[metric])
        return self._numbers[metric]

    def place(self, row: int) -> str:
        """`runs.csv, row 3`; a header is not counted."""
        return f"{self.file}, row {row + 1}"

    def ends(self, metric: str) -> list[float]:
        """A row has no curve."""
        return []


def is_table(path: Path) -> bool:
    """By its suffix, which `.gz` may follow."""
    return kind(path) in KINDS


def read(path: Path) -> Table:
    """A file.

    Raises:
        InputError: it can't be read, or a row has another number of fields than the header.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: it holds no runs")
    return Table(str(path), {"csv": _csv, "json": _json, "parquet": _parquet}[str(kind(path))](path))


def _csv(path: Path) -> DataFrame:
    """All values as text, so that the arms 1.10, 007 and None stay what they are; an empty field is missing.

    The separator is comma, semicolon or tab.
    """
    with decode.open_text(path) as text:
        first = list(islice((line for line in decode.lines(path, text) if line.strip()), 2))
    named = [name for name in _header(first) if name.strip()]
    if not named:
        raise InputError(f"{path}: its first line has no names of columns, such as arm,seed,accuracy")
    part = read_table(path, dict.fromkeys(named, "input"))
    return _frame([(name.strip(), _cleaned(part.values[name])) for name in part.values])


def _header(first: Sequence[str]) -> list[str]:
    """The fields of the first line, at the separator that gives the second line as many; a quoted name may hold any."""
    found = {}
    for separator in ",;\t":
        with suppress(csv.Error):
            found[separator] = [*csv.reader(first, delimiter=separator), [], []]
    fits = {s: rows for s, rows in found.items() if len(rows[0]) == len(rows[1]) > 1}
    return max((rows[0] for rows in (fits or found).values()), key=len, default=[])


def _json(path: Path) -> DataFrame:
    """Nested keys joined by dots, values as written."""
    with decode.open_text(path) as text:
        rows = [_flat(path, number, row) for number, row in enumerate(objects(path, text), 1)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return _frame([(name, _cleaned([row.get(name) for row in rows])) for name in names])


def _flat(path: Path, number: int, row: dict[str, Any]) -> dict[str, Any]:
    """Nested keys joined by dots, each once."""
    kinds = set(map(type, row.values()))
    if dict not in kinds:
        return flat(row) if list in kinds else row
    parts = [flat({name: value}) for name, value in row.items()]
    found = {name: value for part in parts for name, value in part.items()}
    if len(found) < sum(map(len, parts)):
        names = [name for part in parts for name in part]
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}, row {number}: {twice!r} is there twice, once as a key and once nested")
    return found


def _parquet(path: Path) -> DataFrame:
    import pandas
    from pandas import Series

    try:
        rows = pandas.read_parquet(path)
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow: pip install pyarrow, or export the runs as CSV") from None
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"{path} can't be read: {' '.join(str(error).split())[:200]}") from None
    named = [name for name in rows.index.names if name is not None and name not in rows.columns]
    rows = rows.reset_index(named).reset_index(drop=True)  # columns that pandas made the index
    for place, dtype in enumerate(rows.dtypes):
        if dtype.kind == "O":  # texts, categories and what Parquet stores as bytes
            rows.isetitem(place, Series(_cleaned(rows.iloc[:, place].tolist()), dtype=object))
    return rows


def _frame(columns: Sequence[tuple[str, list[Any]]]) -> DataFrame:
    from pandas import DataFrame, Series, concat

    series = [Series(values, name=name, dtype=object) for name, values in columns]
    return concat(series, axis=1) if series else DataFrame()


def _cleaned(values: Sequence[Any]) -> list[Any]:
    """A column; most have texts of ASCII or numbers only, for which there is a shorter way."""
    kinds = set(map(type, values))
    if kinds == {str} and all(map(str.isascii, values)):
        return [value or None for value in map(str.strip, values)]
    if kinds <= {int, float, bool}:
        return list(values)
    return [_clean(value) for value in values]


def _clean(value: Any) -> Any:
    """Text without spaces around it and in normal form NFC; None if nothing is left."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return value
    value = value.strip()
    return (value if value.isascii() else unicodedata.normalize("NFC", value)) or None


def _numbers(column: Series) -> Series:
    """A column of texts and numbers as numbers, if all of them are: whole ones, or with fractions and gaps."""
    from pandas import Series

    if column.dtype != object:
        return column
    values = column.tolist()
    kinds = set(map(type, values))
    try:
        if kinds <= {int, str} and all(type(value) is int or _WHOLE.fullmatch(value) for value in values):
            return Series(list(map(int, values)))
        if kinds == {str} and not any("_" in value for value in values):
            with suppress(ValueError):  # of a gap
                return Series(list(map(float, values)), dtype="float64")
        return Series([_number(value) for value in values], dtype="float64")
    except (ValueError, OverflowError):
        return column


def _number(value: Any) -> float:
    if value is None or (isinstance(value, str) and value.lower() in _GAPS):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal) or "_" in str(value):
        raise ValueError
    return float(value)
