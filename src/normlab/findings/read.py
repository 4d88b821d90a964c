"""Findings and studies from their YAML files. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pydantic
from omegaconf import OmegaConf

from normlab.config.errors import InputError
from normlab.findings.finding import Finding
from normlab.findings.printable import printable


def read_findings(conf: Path, names: Iterable[str], own: Sequence[Path] = ()) -> list[Finding]:
    """Read findings by name.

    Args:
        conf: normlab's folder that contains `finding`.
        own: the user's further folders of this kind.

    Raises:
        InputError: no finding or more than one has that name, or a key in its file is wrong or missing.
    """
    return [read_finding(find_file("finding", name, conf, own)) for name in names]


def find_file(group: str, name: str, conf: Path, own: Sequence[Path] = ()) -> Path:
    """A finding's or a study's file, in normlab's folder or one of the user's.

    Raises:
        InputError: no file or more than one has that name.
    """
    found = [path for folder in (conf, *own) if (path := folder / group / f"{name}.yaml").exists()]
    if not found:
        known = sorted(path.stem for folder in (conf, *own) for path in (folder / group).glob("*.yaml"))
        raise InputError(f"there is no {group} {name!r}; there are {', '.join(known)}")
    if len(found) > 1:
        raise InputError(f"{found[0]} and {found[1]} have the same name: rename your own {group}")
    return found[0]


def read_finding(path: Path) -> Finding:
    """Read and check one file. For `Raises` see `read_findings`."""
    values = printable(read_node(path, "finding"))
    try:
        finding = Finding.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        raise InputError(f"{_shown(path)}: {_worded(error)}") from None
    if finding.name != path.stem:
        raise InputError(f"{_shown(path)}: finding.name={finding.name} must be the file's name, {path.stem}")
    return finding


def read_node(path: Path, key: str) -> dict[str, Any]:
    """The content of a file of `conf/finding` or `conf/study` under its main key.

    Raises:
        InputError: there is no such file, or it can't be read.
    """
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.yaml")))
        raise InputError(f"there is no {key} {path.stem!r}; there are {known}")
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except Exception as error:  # whatever YAML's parser raises
        raise InputError(f"{_shown(path)}: {' '.join(str(error).split())}") from None
    node = values.get(key) if isinstance(values, dict) else None
    if not isinstance(node, dict):
        raise InputError(f"{_shown(path)}: {key} has no value")
    return {str(name): value for name, value in node.items()}


def _shown(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _worded(error: pydantic.ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(["finding", *map(str, problem["loc"])])
    if problem["type"] == "missing":
        return f"{key} has no value"
    if problem["type"] == "extra_forbidden":
        return f"there is no key {key}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}"
    return f"{key}={problem['input']!r}: {problem['msg'][:1].lower() + problem['msg'][1:]}"
