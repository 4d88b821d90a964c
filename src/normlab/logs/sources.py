"""Whatever the user names, a file, a folder or a project on W&B's server, is recognised by what it holds and read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.config.schema import InputError
from normlab.folder.run_folder import RunFolder, runs_folder
from normlab.logs import csv_logger, mlflow, tables, tensorboard, wandb_folders, wandb_online
from normlab.logs.run import LoggedRuns, Run, Runs
from normlab.tables.runs import read_runs

_IN_NAME = re.compile(r"([A-Za-z_][\w.]*)=([^,/\\]+)|\b(seed)[_-]?(\d+)")


@dataclass(frozen=True)
class Source:
    """A kind of folder.

    name    in messages
    key     what it calls a setting of a run
    is_run  whether a folder is a run, judged by the names in it
    read    the runs of these folders
    """

    name: str
    key: str
    is_run: Callable[[Path, set[str]], bool]
    read: Callable[[Sequence[Path]], Iterable[Run]]


FOLDERS = {
    "wandb": Source("W&B", "config key", wandb_folders.is_run, wandb_folders.read),
    "mlflow": Source("MLflow", "parameter", mlflow.is_run, mlflow.read),
    "tensorboard": Source("TensorBoard", "hyperparameter", tensorboard.is_run, tensorboard.read),
    "lightning": Source("CSVLogger", "hyperparameter", csv_logger.is_run, csv_logger.read),
}


def read(file: str, at: str, only: str | None = None) -> Runs:
    """The runs of one FILE.

    Args:
        file: a table, a folder, a file of a run's folder, or `wandb:entity/project`.
        at: the value of a curve that will be asked for: of the server only `last` is read without the whole history.
        only: a key of `FOLDERS`, for folders that hold several kinds.

    Raises:
        InputError: it isn't there, holds no runs or several kinds of them, or can't be read.
    """
    if wandb_online.is_address(file):
        return LoggedRuns(file, "config key", wandb_online.read(file, curves=at != "last"))
    path = Path(file)
    try:
        there = bool(file) and path.exists()
    except OSError as error:  # such as a name of a thousand characters
        raise InputError(f"{file[:80]} can't be read: {error.strerror}") from None
    if not there:
        raise InputError(f"{file or 'FILE is empty, and'} does not exist")
    if path.is_file():
        if tables.is_table(path) and path.name != csv_logger.METRICS:
            return tables.read(path)
        kind = next((kind for kind, source in FOLDERS.items() if source.is_run(path.parent, {path.name})), None)
        if kind is None and not tables.is_table(path):
            known = ", ".join(tables.SUFFIXES)
            raise InputError(f"{file}: only tables ({known}) and the logs of {_kinds()} are read; export the runs")
        if kind is None or (kind == "lightning" and not _steps(path)):
            return tables.read(path)
        return _folder(file, path.parent, {kind: [path.parent]})
    if _is_own(path):
        return tables.Table(file, read_runs(path))
    return _folder(file, path, _find(path, only))


def _folder(file: str, root: Path, found: dict[str, list[Path]]) -> Runs:
    if not found:
        raise InputError(f"{file} holds no runs of {_kinds()}, and none of normlab")
    if len(found) > 1:
        held = " and ".join(f"{FOLDERS[kind].name} runs ({folders[0]})" for kind, folders in found.items())
        raise InputError(f"{file} holds {held}: say which to read with --source {' or '.join(found)}")
    ((kind, folders),) = found.items()
    source = FOLDERS[kind]
    runs = list(source.read(folders))
    for run in runs:
        run.facts = {**_named(Path(run.place), root), **run.facts}
    return LoggedRuns(file, source.key, runs)


def _find(root: Path, only: str | None) -> dict[str, list[Path]]:
    """Kind → the folders that are runs. What lies in a run of W&B or MLflow belongs to that run.

    Links are followed after all else, as people gather runs by them; a folder counts once, whatever leads to it.
    """
    found: dict[str, list[Path]] = {}
    kinds = {only: FOLDERS[only]} if only else FOLDERS
    seen, pending = {*root.resolve().parents}, [root]
    for top in pending:  # which grows by the links that are found
        for folder, inner, files in os.walk(top):
            real = Path(folder).resolve()
            names = [] if real in seen else sorted(name for name in inner if not name.startswith("."))
            inner[:] = names
            if real in seen:
                continue
            seen.add(real)
            here = [kind for kind, source in kinds.items() if source.is_run(Path(folder), {*names, *files})]
            for kind in here:
                found.setdefault(kind, []).append(Path(folder))
            if {"wandb", "mlflow"} & set(here):
                inner.clear()
            else:
                pending += [path for name in names if (path := Path(folder, name)).is_symlink()]
    return {kind: found[kind] for kind in FOLDERS if kind in found}


def _named(folder: Path, root: Path) -> dict[str, Any]:
    """Facts in the names of folders from FILE down: `norm=layer,seed=3` or a seed_3; its own name and its parent's."""
    below = folder.relative_to(root) if folder.is_relative_to(root) else folder
    facts: dict[str, Any] = {"folder": folder.resolve().name, "parent": folder.resolve().parent.name}
    for part in below.parts or (folder.resolve().name,):
        for name, value, seed, number in _IN_NAME.findall(part):
            facts[name or seed] = value or number
    return facts


def _is_own(output: Path) -> bool:
    runs = runs_folder(output)
    return runs.is_dir() and any(folder.is_dir() and RunFolder(folder).has_status() for folder in runs.iterdir())


def _steps(path: Path) -> bool:
    """Is it a run's curve, as CSVLogger writes it, rather than a table of runs that has its name?"""
    with path.open("rb") as file:
        return b"step" in file.readline().strip().split(b",")


def _kinds() -> str:
    names = [source.name for source in FOLDERS.values()]
    return f"{', '.join(names[:-1])} and {names[-1]}"
