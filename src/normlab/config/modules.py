"""Finds the source of a module without importing anything. Imports nothing of normlab."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec, PathFinder


def find_module(name: str) -> ModuleSpec | None:
    """What Python would import under that name; None if there is no such module.

    Python's own function would import the parent packages, and so run their code.
    """
    first, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(first) if first else None
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
