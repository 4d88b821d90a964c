"""Rows of a table file, as the requested columns. No value's type is ever guessed.

An error is reported with its file, row (from 1, without a CSV header) and column.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from normlab.config.schema import InputError
from normlab.files import decode

KINDS = {
    **{".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json", ".txt": "text"},
    **{".tsv": "csv", ".tab": "csv", ".ndjson": "json"},
}
_SEPARATORS = {".csv": ",;\t", ".tsv": "\t,;", ".tab": "\t,;"}


@dataclass(frozen=True)
class Part:
    """Rows of one file, or of one split on the hub.

    values  the requested columns
    typed   false for CSV, where everything is text and an empty field is a missing value
    names   class names, if the file format records them along with integer labels
    """

    name: str
    values: Mapping[str, Sequence[Any]]
    typed: bool = True
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))


Asked = Mapping[str, str]  # column → the option that names it, `input` or `target`


def kind(path: Path) -> str | None:
    """The format of a file, by its suffix; None if it can't be read. Text formats may be compressed, as `.csv.gz`."""
    return KINDS.get(_suffix(path)) if path.suffix.lower() != ".gz" or _suffix(path) != ".parquet" else None


def stem(path: Path) -> str:
    """The name without the suffixes of its format."""
    return path.name[: -len(_suffix(path))] if path.suffix.lower() != ".gz" else path.name[: -len(_suffix(path)) - 3]


def _suffix(path: Path) -> str:
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def read_table(path: Path, asked: Asked) -> Part:
    """Read the requested columns.

    Raises:
        InputError: the file can't be read, a column is missing, or a row has another number of fields than the header.
    """
    decode.check_file(path)
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    found = kind(path)
    part = _parquet(path, asked) if found == "parquet" else _TEXTUAL[str(found)](path, asked)
    if not len(part):
        raise InputError(f"{path} has no rows")
    return part


def check_start(path: Path) -> None:
    """Check that a file starts as its format requires, before a large file is read to its end.

    Raises:
        InputError: it doesn't.
    """
    decode.check_file(path)
    if kind(path) in _TEXTUAL:
        with decode.open_text(path) as text:
            decode.check_text(path, text.read(4096))
        return
    with path.open("rb") as file:
        start = file.read(4)
    if start and start != b"PAR1":
        raise InputError(f"{path} can't be read as parquet: it does not start like a Parquet file")


def _column_missing(path: Path | str, name: str, asked: Asked, found: Sequence[str]) -> InputError:
    has = ", ".join(found[:10]) + (f", … ({len(found)} in all)" if len(found) > 10 else "")
    return InputError(
        f"{path} has no column {name!r}; it has: {has:.500} (set task.{asked[name]} to the column to use)"
    )


def check_columns(path: Path | str, asked: Asked, found: Sequence[str]) -> None:
    """Check that each requested column occurs exactly once.

    Raises:
        InputError: one is missing, or occurs twice.
    """
    for name in asked:
        if name not in found:
            raise _column_missing(path, name, asked, found)
        if found.count(name) > 1:
            raise InputError(f"{path} has {found.count(name)} columns {name!r}: rename all but one")


def _parquet(path: Path, asked: Asked) -> Part:
    import pyarrow
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            check_columns(path, asked, schema.names)
            table = file.read(columns=list(asked))
        values = {name: table.column(name).to_pylist() for name in asked}
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path} can't be read as parquet: {reason}") from error
    return Part(str(path), values, names=_names(schema, asked))


def _names(schema: Any, asked: Asked) -> tuple[str, ...] | None:
    """Class names of integer labels, as the Hugging Face libraries store them in a file."""
    target = next((name for name, key in asked.items() if key == "target"), None)
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(map(str, features[target]["names"])) or None
    except (KeyError, TypeError, ValueError):
        return None


def _csv(path: Path, asked: Asked) -> Part:
    with decode.open_text(path) as text, _long_fields():
        lines = decode.lines(path, text)
        first = next((line for line in lines if line.strip()), "")
        separator, header = _header(path, asked, first)
        check_columns(path, asked, header)
        places = [header.index(name) for name in asked]
        rows = [[row[place] for place in places] for row in _records(path, header, separator, lines)]
    return Part(
        str(path), dict(zip(asked, zip(*rows, strict=True), strict=True)) if rows else _none(asked), typed=False
    )


def _none(asked: Asked) -> dict[str, list[Any]]:
    return {name: [] for name in asked}


@contextmanager
def _long_fields() -> Iterator[None]:
    """Raise the csv library's limit of 131,072 characters per field, which a text may exceed."""
    limit = csv.field_size_limit(decode.LONGEST_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


def _header(path: Path, asked: Asked, first: str) -> tuple[str, list[str]]:
    """The separator and the header: the first of comma, semicolon and tab that gives the requested columns."""
    separators = _SEPARATORS[_suffix(path)]
    found = {separator: next(csv.reader([first], delimiter=separator), []) for separator in separators}
    separator = next((s for s in separators if set(asked) <= set(found[s])), separators[0])
    return separator, found[separator]


def _records(path: Path, header: list[str], separator: str, lines: Iterator[str]) -> Iterator[list[str]]:
    """The rows. All must have as many fields as the header, or all the same number of further empty fields."""
    named = next((n for n in range(len(header), 0, -1) if header[n - 1]), 0)
    number, width = 0, None
    try:
        for row in csv.reader(lines, delimiter=separator, strict=True):
            if not row:  # a blank line
                continue
            number += 1
            width = max(named, len(row)) if width is None else width
            if len(row) != width or any(row[len(header) :]):
                raise InputError(
                    f"{path}, row {number}: {len(row)} fields, but the header has {len(header)}; a field that holds a "
                    f"{'tab' if separator == chr(9) else separator} must be in double quotes"
                )
            yield row
    except csv.Error as error:
        reason = "a double quote is never closed" if "end of data" in str(error) else error
        raise InputError(f"{path}, row {number + 1}: can't be read as csv: {reason}") from None


def _json(path: Path, asked: Asked) -> Part:
    with decode.open_text(path) as text:
        rows = list(_objects(path, text))
    present = {name for row in rows for name in asked if name in row}
    for name in asked:
        if rows and name not in present:
            raise _column_missing(path, name, asked, list(rows[0]))
    return Part(str(path), {name: [row.get(name) for row in rows] for name in asked})


def _objects(path: Path, text: TextIO) -> Iterator[dict[str, Any]]:
    """One object per line, or an array of objects."""
    lines = decode.lines(path, text)
    first = next((line for line in lines if line.strip()), "")
    if first.lstrip().startswith("["):
        rows = _parsed(path, 1, first + "".join(lines))
    else:
        filled = (line for line in chain([first], lines) if line.strip())
        rows = (_parsed(path, number, line) for number, line in enumerate(filled, 1))
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(f'{path}, row {number}: an object such as {{"text": …}} expected, found {row!r:.50}')
        yield row


def _parsed(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}, row {number}: can't be read as json: {reason:.200}") from None


def _text(path: Path, asked: Asked) -> Part:
    check_columns(path, asked, ["text"])
    with decode.open_text(path) as text:
        return Part(str(path), {"text": [decode.read_whole(path, text)]})


_TEXTUAL: dict[str, Callable[[Path, Asked], Part]] = {"csv": _csv, "json": _json, "text": _text}
