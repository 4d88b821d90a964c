"""All runs as one tidy table, one row per run. Imports no torch, and pandas only if there is something to read.

Columns: id, state, norm, model, task, measure, seed, attempt, code, torch; the options as the command line names
them (`norm.eps`, `optim.lr`); the summary's values under their own names (`validation/loss`). Results whose code
has changed since, or of several torch versions, are never mixed silently.
"""

from __future__ import annotations

import difflib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normlab.config.errors import one_line
from normlab.config.names import component_name
from normlab.config.schema import InputError
from normlab.folder.run_folder import RunFolder, runs_folder
from normlab.runs.records import Cell, Record, read_records

if TYPE_CHECKING:
    from pandas import DataFrame, Series

IDENTITY = ("id", "state", "norm", "model", "task", "measure", "seed", "attempt", "code", "torch")
_OPTIONS = ("norm", "model", "task", "optim", "trainer", "measure")
FORMATS = (".csv", ".parquet", ".md")
_BESIDE = (  # columns that are read less often
    *(
        "id",
        "code",
        "train_seconds",
        "fit_seconds",
        "peak_memory_mb",
        "examples",
        "best_step",
        "best_examples",
        "best_seconds",
        "ckpt",
    ),
    *("trainer.progress", "trainer.log_every", "trainer.save_steps", "trainer.save_minutes", "trainer.monitor"),
)
_ORDER = ["measure", "task", "model", "norm", "seed", "id"]  # state of a row


def read_runs(
    output: Path,
    where: str | None = None,
    *,
    stale: bool = False,
    unfinished: bool = False,
    mixed: bool = False,
    tell: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> DataFrame:
    """The finished runs below `output`.

    Args:
        output: the folder of all results
        where: a condition in pandas' query syntax, such as "norm == 'layer' and `optim.lr` < 0.01"
        stale: include results whose code has changed since; their `state` is `stale`
        unfinished: include runs without a result (yet); their `state` says how they ended, `cause` why
        mixed: allow results of several torch versions in one table
        tell: called with one line for each kind of runs left out

    Raises:
        InputError: there are no runs, `where` can't be read, or it leaves several torch versions.
    """
    import pandas

    rows = _rows(output, unfinished, tell)
    frame = pandas.DataFrame(rows)
    frame = frame.reindex(columns=_columns(frame.columns))
    missing = frame.isna()
    for name in frame.columns[missing.any() & ~missing.all()]:
        kinds = {type(row[name]) for row in rows if row.get(name) is not None}
        if kinds in ({int}, {bool}):  # otherwise pandas would turn 3 and a missing value into 3.0 and NaN
            frame[name] = frame[name].astype("Int64" if kinds == {int} else "boolean")
    frame = frame.sort_values(_ORDER, ignore_index=True)
    if where is not None:
        frame = select(frame, where)
    others = frame["state"] == "stale"
    if not stale and others.any():
        tell(f"left out: {_runs(int(others.sum()))} whose code has changed since (--stale shows them)")
        frame = frame[~others]
    if not mixed:
        _check_torch(frame, where)
    return frame.reset_index(drop=True)


def _rows(output: Path, unfinished: bool, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    options = cache(_options)
    rows, left_out, read = [], 0, 0
    for record in read_records(output):
        read += 1
        if record.found.state == "damaged":
            tell(one_line(f"left out: {record.folder} is damaged: {record.found.why}"))
        elif unfinished or record.found.state in ("finished", "stale"):
            rows.append(_row(record, options(record.cell)))
        else:
            left_out += 1
    if read == 0:
        raise InputError(f"there are no runs in {runs_folder(output)}; set the folder of results with --runs FOLDER")
    if left_out:
        tell(f"left out: {_runs(left_out)} without a result (--all shows them)")
    return rows


def _row(record: Record, options: dict[str, Any]) -> dict[str, Any]:
    status = record.found.status
    row = {
        "id": record.folder.name,
        "state": record.state,
        "seed": record.seed,
        "attempt": status.get("attempt"),
        "code": status.get("code"),
        "torch": _torch(record),
    }
    if record.found.state in ("finished", "stale"):
        return {**record.found.summary, **options, **row}
    return {**options, **row, "cause": status.get("cause")}


def _options(cell: Cell) -> dict[str, Any]:
    """The columns that a run has from its config."""
    config = cell.config
    if not config:
        return {}
    options = {name: component_name(config[name]) for name in ("norm", "model")}
    options |= {name: config[name]["name"] for name in ("task", "measure")}
    for group in _OPTIONS:
        _flatten(f"{group}.", config[group], options)
    del options["task.name"], options["measure.name"]  # they have their own columns
    return {**options, "test": config.get("test"), "ckpt": config.get("ckpt")}


def _flatten(prefix: str, values: dict[str, Any], options: dict[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, dict) and prefix.count(".") < _DEEPEST:
            _flatten(f"{prefix}{name}.", value, options)
        elif name[0] != "_":  # keys that Hydra needs to build it
            options[prefix + name] = json.dumps(value) if isinstance(value, list | dict) else value


_DEEPEST = 8  # levels of nested options; a config has three


def _torch(record: Record) -> str | None:
    """The torch version of the run, from the record that older runs have too."""
    known = record.found.status.get("torch")
    if known is None:
        packages = RunFolder(record.folder).read_provenance().get("packages")
        known = packages.get("torch") if isinstance(packages, dict) else None
    return known if isinstance(known, str) else None


def _columns(names: Iterable[str]) -> list[str]:
    """Order the columns: identity, options, results; within each, by first appearance."""

    def place(name: str) -> int:
        if name in IDENTITY:
            return IDENTITY.index(name) - len(IDENTITY)
        group = name.partition(".")[0]
        if name in ("test", "ckpt"):
            return len(_OPTIONS)
        return _OPTIONS.index(group) if "." in name and group in _OPTIONS else len(_OPTIONS) + 1

    return sorted(dict.fromkeys([*IDENTITY, *names]), key=place)


# in single quotes, because a shell would execute backticks within double ones
_EXAMPLE = "put names with dots or slashes in backticks: --where 'norm == \"layer\" and `optim.lr` < 0.01'"


def select(frame: DataFrame, where: str) -> DataFrame:
    """The rows that fulfil a condition.

    Raises:
        InputError: the condition can't be read.
    """
    for name in re.findall("`([^`]+)`", where):
        if name not in frame.columns:
            raise InputError(f"--where {where}: {_unknown(name, frame.columns)}")
    if found := re.fullmatch(r"\s*([\w./]+)\s*=\s*([^=\s'\"]+)\s*", where):  # an option, as train.py takes it
        name, value = found[1] if found[1].isidentifier() else f"`{found[1]}`", found[2]
        shown = value if _is_number(value) else f'"{value}"'
        raise InputError(f"--where {where} is not a condition: write '{name} == {shown}'")
    try:
        chosen = frame.eval(where)
        if getattr(chosen, "dtype", None) not in ("bool", "boolean"):
            raise InputError(f"--where {where} is not a condition; {_EXAMPLE}")
        return frame[chosen.fillna(False)]
    except InputError:
        raise
    except NameError as error:  # pandas' own subclass
        name = str(error).split("'")[1]
        raise InputError(f"--where {where}: {_unknown(name, frame.columns)} ({_EXAMPLE})") from None
    except Exception as error:  # Python's parser and pandas' operators raise errors of any type
        raise InputError(f"--where {where} can't be read: {str(error).splitlines()[0]}; {_EXAMPLE}") from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.lower() in ("true", "false")
    return True


def choose(frame: DataFrame, patterns: Sequence[str]) -> DataFrame:
    """The columns that match, in the order of the patterns (`seed`, `validation/*`).

    Raises:
        InputError: a pattern matches no column.
    """
    chosen: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in frame.columns if fnmatchcase(name, pattern)]
        if not found:
            raise InputError(_unknown(pattern, frame.columns))
        chosen |= dict.fromkeys(found)
    return frame[list(chosen)]


def order(frame: DataFrame, columns: Sequence[str], descending: bool = False) -> DataFrame:
    """The rows sorted by these columns; rows without a value come last.

    Raises:
        InputError: there is no such column, or its values have no order.
    """
    for name in columns:
        if name not in frame.columns:
            raise InputError(_unknown(name, frame.columns))
    try:
        return frame.sort_values(list(columns), ascending=not descending, kind="stable", ignore_index=True)
    except TypeError:
        raise InputError(
            f"--sort {','.join(columns)}: these columns mix text and numbers, which can't be sorted"
        ) from None


def _unknown(name: str, columns: Sequence[str]) -> str:
    inside = [column for column in columns if column.startswith(f"{name}.")]
    near = difflib.get_close_matches(name, list(columns), n=1, cutoff=0.5)
    hint = f" Did you mean {(inside or near)[0]!r}?" if inside or near else ""
    return f"there is no column {name!r}.{hint}"


def _check_torch(frame: DataFrame, where: str | None) -> None:
    counts = frame.loc[frame["state"].isin(["finished", "stale"]), "torch"].fillna("unknown").value_counts()
    if len(counts) < 2:
        return
    listed = ", ".join(f"{version} ({_runs(count)})" for version, count in counts.items())
    condition = f'torch == "{counts.index[0]}"'
    if where:
        condition = f"({where}) and {condition}"
    raise InputError(
        f"these runs were made with different torch versions, so they can't be compared: {listed}. "
        f"Choose one with --where {shlex.quote(condition)}, or allow it with --mixed"
    )


def _runs(count: int) -> str:
    return f"{count:,} run{'s' if count != 1 else ''}"


def write(frame: DataFrame, path: Path) -> None:
    """Write a table as .csv, .parquet or .md, by the file's name.

    Raises:
        InputError: the name has another suffix, or the file can't be written.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"--output {path}: the name must end in {', '.join(FORMATS)}")
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".csv":
            frame.to_csv(part, index=False)
        elif path.suffix == ".parquet":
            _one_type_a_column(frame).to_parquet(part, index=False)
        else:
            part.write_text(markdown(frame) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise InputError(f"--output {path} can't be written: {error.strerror}") from None


def markdown(frame: DataFrame) -> str:
    """The table in Markdown: numbers with four digits, missing values empty."""
    from tabulate import tabulate

    text = [number for number, kind in enumerate(frame.dtypes) if kind in ("str", "object")]  # also codes like 12e4
    if frame.empty:
        return tabulate([], list(frame.columns), "github")  # without rows, it knows no columns
    rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
    cells = [[one_line(value) if isinstance(value, str) else value for value in row] for row in rows]
    names = [one_line(name) for name in frame.columns]
    table: str = tabulate(cells, names, "github", floatfmt=".4g", missingval="", disable_numparse=text or False)
    return table


def differing(frame: DataFrame) -> DataFrame:
    """The columns that distinguish the runs, and the results."""
    return frame[["id", *(name for name in frame.columns if name not in _BESIDE and _differs(frame[name]))]]


def _differs(column: Series) -> bool:
    name = str(column.name)
    if name.startswith("last/") or re.match("inside/.*/", name):
        return False
    values = column.astype(str) if column.dtype == "object" else column  # a list can't be counted
    of_one_kind = name.startswith(
        ("norm.", "model.")
    )  # an option that other norms don't have doesn't count as a difference
    return bool(values[column.notna()].nunique() + (column.isna().any() and not of_one_kind) > 1)


def _one_type_a_column(frame: DataFrame) -> DataFrame:
    """Convert columns of mixed types to text, because Parquet has one type per column."""
    frame = frame.copy()
    for name in frame.columns[frame.dtypes == "object"]:
        frame[name] = [value if value is None or isinstance(value, str) else json.dumps(value) for value in frame[name]]
    return frame
