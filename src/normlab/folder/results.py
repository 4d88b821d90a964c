"""The folders of runs below the folder of all results. Imports no torch."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from normlab.folder.run_folder import RunFolder, runs_folder


def run_folders(output: Path) -> Iterator[RunFolder]:
    """Every run below the folder of all results, by name, including those set aside."""
    try:
        with os.scandir(runs_folder(output)) as entries:
            names = sorted(entry.name for entry in entries if _is_folder(entry) and not entry.name.startswith("."))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        raise
    for name in names:
        yield RunFolder.at(output, name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def remove_folder(folder: Path) -> None:
    """Remove a folder with its content; if it is a link to one, only the link."""
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder)
