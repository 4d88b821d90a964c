"""Rows of a table file, as the requested columns. No value's type is ever guessed.

An error is reported with its file, row (from 1, without a CSV header) and column.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

from normlab.config.schema import InputError
from normlab.files import arrays, decode
from normlab.files.part import Asked, Part, check_columns, column_missing

KINDS = {
    **{".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".json": "json", ".txt": "text"},
    **{".tsv": "csv", ".tab": "csv", ".ndjson": "json", ".npz": "npz"},
}
_SEPARATORS = {".csv": ",;\t", ".tsv": "\t,;", ".tab": "\t,;"}


def kind(path: Path) -> str | None:
    """The format of a file, by its suffix; None if it can't be read. Text formats may be compressed, as `.csv.gz`."""
    found = KINDS.get(_suffix(path))
    return found if path.suffix.lower() != ".gz" or found not in ("parquet", "npz") else None


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
    part = {**_TEXTUAL, "parquet": _parquet, "npz": arrays.read}[str(found)](path, asked)
    if not len(part):
        raise InputError(f"{path} has no rows")
    return part


def columns_of(path: Path, known: str | None = None) -> list[str]:
    """The names of a file's columns, in order.

    Args:
        known: a column that it should have, by which the separator of a CSV is found.

    Raises:
        InputError: the file can't be read.
    """
    decode.check_file(path)
    found = kind(path)
    if found == "csv":
        with decode.open_text(path) as text:
            first = next((line for line in decode.lines(path, text) if line.strip()), "")
        return _header(path, {known: ""} if known else {}, first)[1]
    if found == "json":
        with decode.open_text(path) as text:
            return list(dict.fromkeys(name for row in objects(path, text) for name in row))
    if found == "npz":
        return arrays.names(path)
    return _parquet_columns(path)


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
    if start and kind(path) == "parquet" and start != b"PAR1":
        raise InputError(f"{path} can't be read as parquet: it does not start like a Parquet file")


def _parquet_columns(path: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} can't be read as parquet: {error!s:.200}") from error


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
        chosen = itemgetter(*places, places[0])  # at least two, of which it then makes a tuple
        rows = [chosen(row) for row in _records(path, header, separator, lines)]
    columns: list[tuple[Any, ...]] = [*zip(*rows, strict=True)][:-1] if rows else [() for _ in asked]
    return Part(str(path), dict(zip(asked, columns, strict=True)), typed=False)


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
            if named > 1 and [row[0].removeprefix("\ufeff"), *row[1 : len(header)]] == header:
                raise InputError(
                    f"{path}, row {number}: the header again, as in files that were joined: remove this row"
                )
            yield row
    except csv.Error as error:
        reason = "a double quote is never closed" if "end of data" in str(error) else error
        raise InputError(f"{path}, row {number + 1}: can't be read as csv: {reason}") from None


def _json(path: Path, asked: Asked) -> Part:
    with decode.open_text(path) as text:
        rows = list(objects(path, text))
    present = {name for row in rows for name in asked if name in row}
    for name in asked:
        if rows and name not in present:
            raise column_missing(path, name, asked, list(rows[0]))
    return Part(str(path), {name: [row.get(name) for row in rows] for name in asked})


def objects(path: Path, text: TextIO) -> Iterator[dict[str, Any]]:
    """One object per line, or an array of objects.

    Raises:
        InputError: the text is neither.
    """
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
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{path}, row {number}: can't be read as json: {reason:.200}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a repeated key, of which Python's parser keeps only the last value."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it names {next(name for name in names if names.count(name) > 1)!r} twice")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)  # `json.loads` would make one for each row


def _text(path: Path, asked: Asked) -> Part:
    check_columns(path, asked, ["text"])
    with decode.open_text(path) as text:
        return Part(str(path), {"text": [decode.read_whole(path, text)]})


_TEXTUAL: dict[str, Callable[[Path, Asked], Part]] = {"csv": _csv, "json": _json, "text": _text}
