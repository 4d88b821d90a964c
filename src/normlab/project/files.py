"""What is known of a Lightning project's data before its code runs. Imports no torch.

Where a DataModule reads its data is its own business. Files and folders among its arguments are hashed; whatever else
it reads isn't known here, so `trial` also hashes the first batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.config.schema import RunConfig
from normlab.project.options import ProjectConfig, check_project, project_of, said

LARGE = 2**30  # bytes of files above which their names, sizes and times are hashed instead of their content


@dataclass(frozen=True)
class Named:
    """What a project's options say of its data.

    fingerprint  hash of the files and folders that they name; empty if they name none
    notes        lines for the user
    """

    fingerprint: str
    notes: tuple[str, ...]


def named(config: RunConfig) -> Named:
    """What the options of the run's project say, after a check of them all.

    Raises:
        InputError: the project can't be found or called.
    """
    project = project_of(config)
    check_project(config, project)
    files = ", ".join(map(str, named_files(project)))
    data = (
        f"the data are identified by {files}"
        if files
        else "no argument names a file or folder, so a change of the data isn't noticed: then repeat with rerun=true"
    )
    return Named(fingerprint(project), ("; ".join((*said(config, project), data)),))


def named_files(project: ProjectConfig) -> list[Path]:
    """Files and folders that its arguments name."""
    texts = [*_texts(project.arguments), *_texts(project.data_arguments)]
    return [path for path in map(Path, dict.fromkeys(texts)) if _exists(path)]


def fingerprint(project: ProjectConfig) -> str:
    """A hash of them; empty if there are none."""
    named = named_files(project)
    if not named:
        return ""
    digest = hashlib.sha256()
    files = [(base, path) for base in named for path in _below(base)]
    by_content = sum(path.stat().st_size for _, path in files) <= LARGE
    for base, path in files:
        stat = path.stat()
        digest.update(f"{path.relative_to(base.parent)} {stat.st_size}\n".encode())
        if by_content:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        else:
            digest.update(f"{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _below(base: Path) -> Iterator[Path]:
    return iter(sorted(path for path in base.rglob("*") if path.is_file()) if base.is_dir() else [base])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _exists(path: Path) -> bool:
    try:
        return bool(path.name) and path.exists()
    except (OSError, ValueError):  # no file can have such a name
        return False
