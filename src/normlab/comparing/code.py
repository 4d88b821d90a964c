"""A class or function that only this process has, such as one of a notebook, as a file that others can import.

The file has its source and what that refers to: imports, constants, and functions and classes of the same place. Its
name has a hash of its text, so the code is part of the identity of the runs that build it. Imports no torch.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib
import inspect
import linecache
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from normlab.comparing.written import write_once
from normlab.config.errors import InputError


def target_of(build: Callable[..., Any], folder: Path) -> str:
    """`module:name` of a class or function if others can import it; otherwise `file.py:name` of a file written for it.

    Args:
        folder: of that file.

    Raises:
        InputError: it has no source, or refers to an object that can't be written as source.
    """
    if not (inspect.isclass(build) or inspect.isfunction(build)):
        raise InputError(f"build is {type(build).__name__}: give the class or function that builds a new network")
    if build.__name__ == "<lambda>":
        raise InputError("build is a lambda: write it as a function with def, so that its source has a name")
    if _is_importable(build):
        return f"{build.__module__}:{build.__qualname__}"
    writer = _Writer(build)
    text = f"# Written by normlab.compare, so that its runs can import {build.__name__}.\n\n{writer.text()}"
    file = folder / f"{build.__name__}_{hashlib.sha256(text.encode()).hexdigest()[:8]}.py"
    write_once(file, lambda out: out.write(text.encode()))
    return f"{file}:{build.__name__}"


def root_of(build: Any) -> str | None:
    """The folder from which an importable class or function is imported; None if it has no file."""
    module = sys.modules.get(getattr(build, "__module__", ""))
    file = getattr(module, "__file__", None)
    if module is None or file is None or module.__name__ == "__main__":
        return None
    depth = module.__name__.count(".") + (Path(file).name == "__init__.py")
    return str(Path(file).resolve().parents[depth])


def _is_importable(value: Any) -> bool:
    name, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", "<")
    if name in (None, "__main__") or "<" in qualified or "." in qualified:
        return False
    try:
        module = importlib.import_module(str(name))
    except ImportError:
        return False
    return getattr(module, qualified, None) is value and getattr(module, "__file__", None) is not None


class _Writer:
    """Collects the source of an object and of all that it refers to."""

    def __init__(self, build: Any) -> None:
        self.build = build
        self.lines: dict[str, str] = {}  # name → import or constant
        self.definitions: dict[str, str] = {}  # name → source, after all that it needs
        self._open: dict[str, Any] = {}
        self._define(build.__name__, build)

    def text(self) -> str:
        """The file."""
        head = sorted(self.lines.values(), key=lambda line: (not line.startswith(("import ", "from ")), line))
        return "\n\n\n".join([*(["\n".join(head)] if head else []), *self.definitions.values()]) + "\n"

    def _define(self, name: str, value: Any) -> None:
        if name in self._open:
            if self._open[name] is not value:
                raise self._refused(name, "two objects have this name")
            return
        self._open[name] = value
        source = _source(value)
        if source is None:
            raise self._refused(name, "its source can't be read")
        if name != value.__name__:
            raise self._refused(name, f"it is another name of {value.__name__}")
        if inspect.isclass(value) and (changed := _changed(value, source)) is not None:
            raise self._refused(name, f"its {changed} was replaced after the class was written")
        known = _known(value)
        for used, annotates in _free_names(source):
            if used in known:
                self._add(used, known[used])
            elif not hasattr(builtins, used) and not annotates and used not in ("__class__", "__name__"):
                raise self._refused(used, f"{name} uses it, and its value is known only inside a function")
        self.definitions[name] = source

    def _add(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType):
            self._line(name, f"import {value.__name__} as {name}")
        elif _is_importable(value):
            self._line(name, f"from {value.__module__} import {value.__qualname__} as {name}")
        elif inspect.isclass(value) or isinstance(value, FunctionType):
            self._define(name, value)
        elif (module := _home(name, value)) is not None:
            self._line(name, f"from {module} import {name}")
        elif _is_constant(value):
            self._line(name, f"{name} = {value!r}")
        else:
            raise self._refused(name, f"it is an object of class {type(value).__name__}")

    def _line(self, name: str, line: str) -> None:
        if self.lines.setdefault(name, line) != line or name in self._open:
            raise self._refused(name, "two objects have this name")

    def _refused(self, name: str, why: str) -> InputError:
        build = self.build.__name__
        what = build if name == build else f"{build} refers to {name}, and that"
        return InputError(
            f"{what} can't be written to a file for the runs of the comparison: {why}; save {build} at the top level "
            f"of a file of yours and give build='nets.py:{build}'"
        )


def _known(value: Any) -> Mapping[str, Any]:
    """What the names in its source stand for: globals, and variables of the functions around it."""
    if not inspect.isclass(value):
        return {**value.__globals__, **inspect.getclosurevars(value).nonlocals}
    known = dict(vars(sys.modules.get(value.__module__, builtins)))
    for method in _functions(value):
        known |= inspect.getclosurevars(method).nonlocals
    return known


def _functions(value: type) -> Iterator[FunctionType]:
    for one in vars(value).values():
        inner = getattr(one, "__func__", getattr(one, "fget", one))
        if isinstance(inner, FunctionType) and inner.__qualname__.startswith(value.__qualname__):
            yield inner


def _source(value: Any) -> str | None:
    """Not indented; None if there is none."""
    try:
        text = _class_source(value) if inspect.isclass(value) else inspect.getsource(value)
    except (OSError, TypeError):
        return None
    return None if text is None else textwrap.dedent(text).rstrip()


def _class_source(value: type) -> str | None:
    """By the place of its methods: `inspect` finds no class of a notebook."""
    method = next(_functions(value), None)
    if method is None:
        return inspect.getsource(value)
    code, lines = method.__code__, linecache.getlines(method.__code__.co_filename)
    for node in ast.walk(ast.parse("".join(lines))):
        end = getattr(node, "end_lineno", None) or 0
        if isinstance(node, ast.ClassDef) and node.name == value.__name__:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first <= code.co_firstlineno <= end:
                return "".join(lines[first - 1 : end])
    return None


def _changed(value: type, source: str) -> str | None:
    """A method that is not the one in the class's source, because somebody assigned another."""
    (written,) = ast.parse(source).body
    if getattr(written, "decorator_list", None):  # which may add and replace methods
        return None
    wrapped = {node.name for node in ast.walk(written) if isinstance(node, ast.FunctionDef) and node.decorator_list}
    own = {*wrapped, *_names(written)}  # assigned in the class itself, or by a decorator
    for name, one in vars(value).items():
        elsewhere = isinstance(one, FunctionType) and not one.__qualname__.startswith(f"{value.__qualname__}.")
        if elsewhere and name not in own:
            return name
    return None


def _free_names(source: str) -> list[tuple[str, bool]]:
    """The names that a source takes from outside, and whether one is used only in annotations."""
    found = {symbol.get_name() for symbol in _outer(symtable.symtable(source, "<source>", "exec"), top=True)}
    tree = ast.parse(source)
    noted = {name for node in ast.walk(tree) for part in _annotations(node) for name in _names(part)}
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if getattr(node, field, None) is not None:
                setattr(node, field, None)
    plain = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return [(name, name in noted and name not in plain) for name in sorted(found)]


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    for field in ("annotation", "returns"):
        if (part := getattr(node, field, None)) is not None:
            yield part


def _names(node: ast.AST) -> Iterator[str]:
    return (one.id for one in ast.walk(node) if isinstance(one, ast.Name))


def _outer(table: symtable.SymbolTable, *, top: bool = False) -> Iterator[symtable.Symbol]:
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()} if top else set[str]()
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or top) and symbol.get_name() not in own:
            yield symbol
    for child in table.get_children():
        yield from (symbol for symbol in _outer(child) if symbol.get_name() not in own)


def _home(name: str, value: Any) -> str | None:
    """The module from which an object such as a function in C can be imported by its name."""
    module = getattr(value, "__module__", None)
    return module if isinstance(module, str) and getattr(sys.modules.get(module), name, None) is value else None


def _is_constant(value: Any) -> bool:
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError, TypeError):
        return False
