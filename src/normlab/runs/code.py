"""The code that a run depends on, and a hash of it. Imports no torch.

A run depends on the modules that its measure, its norm and its model import, directly or indirectly, anywhere in a
file. Comments, docstrings and layout don't count. Only those of these modules count that decide a result:

- the rooms in which results are computed (`ROOMS`). Code that only shows, copies, stores or stops a run is in other
  rooms: a progress bar or heartbeat in mirror, signals in stopping, file formats in `folder`;
- in `config` only the derivation of random seeds (`MODULES`). Options decide results through their values, which are
  part of a run's id, and checks decide whether a run is refused;
- for a norm, model or network outside normlab, its module's file, and what that imports from the same folder or
  package; of an installed package only from the same folder.

Compiled sources count if a counted module of their room is imported: a CNN with group norm imports no kernels.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from normlab.config.components import code_named
from normlab.config.modules import module_file, module_of
from normlab.config.schema import RunConfig

PACKAGE = Path(__file__).parents[1]
ROOMS = (
    *("norms", "kernels", "fused", "weights", "models", "sites", "networks", "files", "data", "tasks"),
    *("probes", "session", "timing", "project", "measures"),
)
MODULES = ("config/seeds.py",)  # of other rooms
SOURCES = (".py", ".cpp", ".h")  # modules, and sources that are compiled for them


def code_hash(config: RunConfig) -> str:
    """A hash of the code that a run of this config depends on, as it is on the disk now."""
    beside = getattr(config.measure, "against", None)
    return code_of(config.measure.name, *code_named(config.norm, config.model, beside))


def code_of(measure: str, *classes: str) -> str:
    """The same, from the measure's name and what `code_named` gives of norms and model."""
    entries = (f"normlab.measures.{measure}", *(module_of(name) for name in classes))
    return _hash_of(entries, _state(entries))


@lru_cache(maxsize=64)
def _hash_of(entries: tuple[str, ...], state: tuple[tuple[str, int, int], ...]) -> str:
    del state  # part of the key: the files have not changed since
    digest = hashlib.sha256()
    for path in sorted(_reached(entries)):
        name = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.name
        digest.update(f"{name}\n{_read(path).digest}\n".encode())
    return digest.hexdigest()[:16]


def _state(entries: Iterable[str]) -> tuple[tuple[str, int, int], ...]:
    """Every source file that may count, and those that the user's own modules reach, with time and size."""
    own = sorted(_outside(entries))
    ours = [*(path for room in ROOMS for path in _files(room)), *(PACKAGE / name for name in MODULES)]
    stats = ((path, path.stat()) for path in (*ours, *own))
    return tuple((str(path), stat.st_mtime_ns, stat.st_size) for path, stat in stats)


def _files(room: str) -> Iterable[Path]:
    folder = PACKAGE / room
    if not folder.is_dir():
        return [path for path in [folder.with_suffix(".py")] if path.exists()]
    return sorted(path for path in folder.glob("**/*") if path.suffix in SOURCES)


def _reached(entries: Iterable[str]) -> set[Path]:
    """The files of the entries and of everything that they import, directly or indirectly."""
    reached: set[Path] = set()
    waiting = [path for name in entries for path in (*_paths(name), *_own(name))]
    while waiting:
        path = waiting.pop()
        if path in reached:
            continue
        reached.add(path)
        if path.suffix == ".py":
            waiting += [found for name in _read(path).imports for found in (*_paths(name), *_beside(path, name))]
    return reached


def _outside(entries: Iterable[str]) -> set[Path]:
    """The files outside normlab that the entries reach."""
    found: set[Path] = set()
    waiting = [path for name in entries for path in _own(name)]
    while waiting:
        if (path := waiting.pop()) not in found:
            found.add(path)
            waiting += [file for name in _read(path).imports for file in _beside(path, name)]
    return found


def _own(name: str) -> list[Path]:
    """The file of a module outside normlab, such as a user's own norm; empty if there is no such module."""
    if name.partition(".")[0] == "normlab":
        return []
    file = module_file(name)
    return [Path(file)] if file else []


def _beside(path: Path, name: str) -> list[Path]:
    """The files that a module outside normlab may read from its own folder or package when it imports `name`."""
    if path.is_relative_to(PACKAGE):
        return []
    parts = name.split(".")
    found = [path.parent / f"{part}.py" for part in parts]
    for folder in _folders(path):
        places = [folder.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
        found += [file for place in places for file in (place.with_name(f"{place.name}.py"), place / "__init__.py")]
    return [file for file in dict.fromkeys(found) if file.is_file()]


def _folders(path: Path) -> list[Path]:
    """From where a file's imports may start: its folder, and those around it up to the one that holds its package."""
    if {"site-packages", "dist-packages"} & {*path.parts}:
        return []
    folders = [path.parent]
    while (folders[-1] / "__init__.py").is_file():
        folders.append(folders[-1].parent)
    return folders


def _paths(name: str) -> Iterator[Path]:
    """The counting files that importing `normlab.room.module` (or a name in it) may read."""
    parts = name.split(".")
    if parts[0] != "normlab" or len(parts) < 2:
        return
    if parts[1] not in ROOMS:
        yield from (PACKAGE / known for known in MODULES if known == "/".join(parts[1:3]) + ".py")
        return
    for length in range(2, len(parts) + 1):
        place = PACKAGE.joinpath(*parts[1:length])
        if place.with_suffix(".py").is_file():
            yield place.with_suffix(".py")
        elif place.is_dir():
            yield place / "__init__.py"
    if parts[1] == "kernels":  # compiled sources belong to every module in their room
        yield from (path for path in _files("kernels") if path.suffix != ".py")


class _Source:
    """A source file: a hash of its code, and the modules that it imports."""

    def __init__(self, text: str, suffix: str) -> None:
        self.imports: set[str] = set()
        if suffix != ".py":
            self.digest = hashlib.sha256(text.encode()).hexdigest()
            return
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                self.imports |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import | ast.ImportFrom):  # the latter: from . import …
                self.imports |= {alias.name for alias in node.names}
        self.digest = hashlib.sha256(ast.dump(_without_docstrings(tree)).encode()).hexdigest()


def _read(path: Path) -> _Source:
    stat = path.stat()
    return _parsed(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1024)
def _parsed(path: Path, _time: int, _size: int) -> _Source:
    return _Source(path.read_text(encoding="utf-8"), path.suffix)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:]
    return tree
