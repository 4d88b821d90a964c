"""Finds the source of a module without importing anything. Imports nothing of normlab.

A module is a dotted name, or the path of a Python file as in `my_nets.py`. The working folder is searched last.
"""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path


def find_module(name: str) -> ModuleSpec | None:
    """What Python would import under that name; None if there is no such module.

    Python's own function would import the parent packages, and so run their code.
    """
    if is_file(name):
        return importlib.util.spec_from_file_location(Path(name).stem, name) if Path(name).is_file() else None
    first, *rest = name.split(".")
    try:
        spec = (importlib.util.find_spec(first) or PathFinder.find_spec(first, [str(Path.cwd())])) if first else None
        for part in rest:
            if spec is None or spec.submodule_search_locations is None or not part:
                return None
            spec = PathFinder.find_spec(part, list(spec.submodule_search_locations))
    except (ImportError, ValueError, OSError):  # not a valid name of a module
        return None
    return spec


def module_file(name: str) -> str | None:
    """The Python file of a module; None if it has none."""
    spec = find_module(name)
    return spec.origin if spec and spec.origin and spec.origin.endswith(".py") else None


def is_file(module: str) -> bool:
    """Whether a module is named by the path of its file."""
    return module.endswith(".py")


def module_of(target: str) -> str:
    """The module of `package.module.Class`, or of `package.module:name` and `file.py:name` as in `model.target`."""
    return target.rpartition(":" if ":" in target else ".")[0]


def not_found(module: str) -> str:
    """Where a module was searched, and what to do."""
    if is_file(module):
        return f"there is no file {module} in {Path.cwd()}: start from the folder that the path is relative to"
    return (
        f"there is no module {module} in {Path.cwd()} or on Python's path: put the folder that holds "
        f"{module.partition('.')[0]} on the path, as in PYTHONPATH=FOLDER"
    )
