"""Names of ours that prose puts in backticks exist: in README, in CONTRIBUTING and in the package's docstrings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "normlab"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
QUOTED = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def quoted(text: str) -> Iterator[str]:
    """What stands in backticks, but for blocks of code."""
    return (found[1] for found in QUOTED.finditer(re.sub(r"```.*?```", "", text, flags=re.S)))


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def documented(path: Path) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, kinds) and ast.get_docstring(node):
            yield node


@cache
def names_in(path: Path) -> frozenset[str]:
    """Every identifier of a module, and every word of its strings except docstrings (columns, options, keys)."""
    prose = {id(node.body[0].value) for node in documented(path)}
    found = {path.stem}
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            found |= set(re.findall(r"\w+", node.value))
        for attribute in ("id", "attr", "arg", "name", "asname"):
            if isinstance(value := getattr(node, attribute, None), str):
                found |= set(value.split("."))
    return frozenset(found)


def known_in(room: str) -> frozenset[str]:
    """The names of a room, and those that the rooms it imports define."""
    own = frozenset().union(*(names_in(path) for path in (PACKAGE / room).rglob("*.py")))
    imported = {
        name.name
        for other in imported_by(room)
        for path in (PACKAGE / other).rglob("*.py")
        for name in ast.walk(parsed(path))
        if isinstance(name, ast.ClassDef | ast.FunctionDef)
    }
    return own | imported


def imported_by(room: str) -> set[str]:
    nodes = (node for path in (PACKAGE / room).rglob("*.py") for node in ast.walk(parsed(path)))
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[1] for name in modules if name.startswith("normlab.")} & set(ROOMS)


def exists(dotted: str) -> bool:
    """Whether `normlab.room.module.Class.method` is there."""
    place, parts = PACKAGE, dotted.split(".")[1:]
    while parts and (place / parts[0]).is_dir():
        place = place / parts.pop(0)
    if not parts:
        return True
    module = place / f"{parts.pop(0)}.py"
    return module.is_file() and all(part in names_in(module) for part in parts)


def is_there(path: str, beside: Path) -> bool:
    places = (ROOT, PACKAGE, ROOT / "tests", beside)
    return any((place / path).exists() for place in places) or (
        "/" not in path and any(beside.rglob(path))  # the room says which
    )


PATH = re.compile(r"[\w/.-]*\w\.(?:py|yaml|cpp|h|toml)|(?:src|conf|scripts|tests|notebooks)/[\w/.-]*")
COLUMN = re.compile(r"_?[a-z]+(_[a-z]+)*")  # of a summary, put together from a measure's name and a quantity
OTHERS = {"Raises", "pyarrow", "tokenizers"}  # a section of docstrings, and libraries
PLACEHOLDER = re.compile(r"(^|/)(x|my_\w+|mine|…+)([./]|$)")  # `norms/x.py`: whatever one adds


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_names_in_the_documents_exist(document):
    missing = []
    for name in quoted((ROOT / document).read_text(encoding="utf-8")):
        if re.fullmatch(r"normlab(\.\w+)+", name):
            missing += [] if exists(name) else [name]
        elif PATH.fullmatch(name) and not PLACEHOLDER.search(name) and "…" not in name:
            missing += [] if is_there(name, ROOT) or any(PACKAGE.glob(f"*/{name}")) else [name]
    assert not missing


@pytest.mark.parametrize("room", ROOMS)
def test_names_in_docstrings_exist(room):
    folder, known, missing = PACKAGE / room, known_in(room) | OTHERS, []
    for path in sorted(folder.rglob("*.py")):
        texts = (ast.get_docstring(node) or "" for node in documented(path))
        for name in (name for text in texts for name in quoted(text)):
            where = f"{path.relative_to(PACKAGE)}: {name}"
            if re.fullmatch(r"normlab(\.\w+)+", name):
                missing += [] if exists(name) or name.startswith("normlab.room.") else [where]
            elif PATH.fullmatch(name) and not PLACEHOLDER.search(name):
                missing += [] if is_there(name, folder) else [where]
            elif re.fullmatch(r"[A-Za-z_]\w*(\(\))?", name) and not (room == "measures" and COLUMN.fullmatch(name)):
                missing += [] if name.removesuffix("()") in known else [where]
    assert not missing


def test_a_name_that_is_not_there_is_found():
    assert not exists("normlab.norms.layer.Missing")
    assert not exists("normlab.norms.missing")
    assert exists("normlab.norms.layer.LayerNorm.normalise")
    assert "no_such_function" not in known_in("config")
    assert "Norm" in known_in("models")
