"""The options of a class, read from its source without importing it (and so without importing torch).

A norm's or model's constructor is the only place where its options and their types are written down;
`read` makes them available before torch is imported, so that a typing error is reported quickly. Base classes are
read too, in any module.
"""

from __future__ import annotations

import ast
import json
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydantic.types

from normlab.config.errors import InputError
from normlab.config.modules import find_module

_NAMES: dict[str, Any] = {
    "__builtins__": {kind.__name__: kind for kind in (int, float, bool, str, list, tuple, dict)},
    **{name: getattr(typing, name) for name in ("Any", "Literal", "Annotated", "Optional")},
    **{name: value for name, value in vars(pydantic.types).items() if name[0].isupper()},
    "Field": pydantic.Field,
}
_FINITE = pydantic.ConfigDict(allow_inf_nan=False)


def _said(problem: Any) -> str:
    """pydantic's message, with a bound such as 1.2e-38 as Python writes it instead of with all of its zeros."""
    message: str = problem["msg"]
    bounds = [value for value in problem.get("ctx", {}).values() if isinstance(value, float) and 0 < abs(value) < 1e-4]
    return re.sub(r"-?0\.0000\d*", str(bounds[0]), message) if bounds else message


@dataclass(frozen=True)
class Signature:
    """What a class and its base classes define in their source.

    options    keyword-only parameters of the constructor with their types
    constants  class attributes that are plain literals
    classes    dotted names of the class and of all its bases that could be read or are named by an import
    """

    options: dict[str, Any]
    constants: dict[str, Any]
    classes: tuple[str, ...] = ()


@lru_cache
def read(target: str) -> Signature:
    """The signature of the class that a config's `_target_` names.

    A constructor with `**named` passes on to the next class what it doesn't name, so it has that class's options too; a
    class without a constructor has those of its base.

    Raises:
        InputError: there is no such module or class, or no source to read it from.
    """
    module, _, name = target.rpartition(".")
    source = source_of(module, target)
    found = source.find(name)
    if found is None:
        raise InputError(f"_target_ {target}: {module} defines no class {name}")
    return _signature(*found)


def type_error(hint: Any, value: object) -> str | None:
    """Why `value` is not of type `hint`, in words; None if it is.

    inf and nan are not valid for a float option, unless its type has `Field(allow_inf_nan=True)`.
    """
    try:
        adapter = pydantic.TypeAdapter(hint, config=_FINITE)
    except pydantic.PydanticUserError:  # the type has its own config
        adapter = pydantic.TypeAdapter(hint)
    try:
        # by way of JSON, YAML's lists are accepted for tuples, and nothing else is converted
        adapter.validate_json(json.dumps(value), strict=True)
    except TypeError:
        return f"a value of a config is expected, not a {type(value).__name__}"
    except pydantic.ValidationError as error:
        return "; ".join(dict.fromkeys(_said(problem) for problem in error.errors()))
    return None


@dataclass(frozen=True)
class Source:
    """A module's source.

    package  that relative imports start from
    """

    module: str
    package: str
    tree: ast.Module

    def find(self, name: str) -> tuple[Source, ast.ClassDef] | None:
        """The class of that name, from this module or the one it is imported from."""
        found = self.defined(name)
        return (found[0], found[1]) if found and isinstance(found[1], ast.ClassDef) else None

    def defined(self, name: str) -> tuple[Source, ast.ClassDef | ast.FunctionDef] | None:
        """The class or function of that name, from this module or the one it is imported from."""
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return self, node
        imported = self.imports().get(name)
        if imported is None or imported == f"{self.module}.{name}":
            return None
        module, _, original = imported.rpartition(".")
        source = _readable(module)
        return source.defined(original) if source else None

    def imports(self) -> dict[str, str]:
        """Names that imports at the top of the module bind → the dotted names that they refer to."""
        return dict(self._imports())

    def _imports(self) -> Iterator[tuple[str, str]]:
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    yield (alias.asname, alias.name) if alias.asname else (first, first)
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                for alias in node.names:
                    yield alias.asname or alias.name, f"{origin}.{alias.name}"

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.package.split(".")
        return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])

    def dotted(self, node: ast.expr) -> str | None:
        """The dotted name that an expression such as `Norm` or `base.Norm` refers to; None for other expressions."""
        path: list[str] = []
        while isinstance(node, ast.Attribute):
            path.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Subscript):  # Generic[T] and the like
            return None
        if not isinstance(node, ast.Name):
            return None
        first = self.imports().get(node.id, f"{self.module}.{node.id}")
        return ".".join([first, *path])

    def names(self) -> dict[str, Any]:
        """Types that an annotation may use: normlab's, and those that the module defines or imports."""
        names = {**_NAMES}
        for name, origin in self.imports().items():
            module, _, original = origin.rpartition(".")
            source = _readable(module) if original[:1].isupper() and module != self.module else None
            if source and name not in names and original in (found := _aliases(source.tree)):
                names[name] = found[original]
        return {**names, **_aliases(self.tree, names)}


def source_of(module: str, target: str) -> Source:
    """The source of a module that a config names."""
    spec = find_module(module)
    if spec is None or spec.origin is None:
        raise InputError(f"_target_ {target}: there is no module {module or target!r}")
    if not spec.origin.endswith(".py"):
        raise InputError(f"_target_ {target}: {module} is not a Python file, so it can't define a norm or a model")
    try:
        tree = _parsed(spec.origin, Path(spec.origin).stat().st_mtime_ns)
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        reason = error.msg if isinstance(error, SyntaxError) else "not UTF-8 text"
        raise InputError(f"_target_ {target}: {spec.origin}{line}: {reason}") from None
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    return Source(module, package, tree)


@lru_cache
def _parsed(path: str, _time: int) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))


def _readable(module: str) -> Source | None:
    """The source of a module that another one imports; None if it can't define options.

    Only the user's own modules and normlab's define options. Others, above all torch, are not even searched for,
    because finding a submodule imports its package.
    """
    if module.partition(".")[0] in _FOREIGN:
        return None
    try:
        return source_of(module, module)
    except InputError:
        return None


_FOREIGN = frozenset({"torch", "numpy", "abc", "typing", "pydantic", "collections", "lightning", "pytorch_lightning"})


def _signature(source: Source, found: ast.ClassDef) -> Signature:
    inherited = _inherited(source, found)
    init = next((n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    options: dict[str, Any] = {}
    if init is not None:
        names = source.names()
        options = {arg.arg: type_of(arg.annotation, names) for arg in init.args.kwonlyargs}
    if init is None or init.args.kwarg is not None:
        options = {**options, **{k: v for k, v in inherited.options.items() if k not in options}}
    own = f"{source.module}.{found.name}"
    return Signature(options, {**inherited.constants, **_constants(found)}, (own, *inherited.classes))


def _inherited(source: Source, found: ast.ClassDef) -> Signature:
    """What the bases define together; if two define the same, the first counts."""
    options: dict[str, Any] = {}
    constants: dict[str, Any] = {}
    classes: list[str] = []
    for base in found.bases:
        dotted = source.dotted(base)
        if dotted is None:
            continue
        module, _, name = dotted.rpartition(".")
        where = source if module == source.module else _readable(module)
        there = where.find(name) if where else None
        if there is None or there[1] is found:
            classes.append(dotted)
            continue
        signature = _signature(*there)
        options = {**signature.options, **options}
        constants = {**signature.constants, **constants}
        classes += signature.classes
    return Signature(options, constants, tuple(classes))


def _aliases(tree: ast.Module, known: dict[str, Any] | None = None) -> dict[str, Any]:
    """Module-level names of types, such as `Pool = Literal["tokens", "positions"]`."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            hint = type_of(node.value, {**(known or _NAMES), **found})
            if hint is not Any:
                found[node.targets[0].id] = hint
    return found


def type_of(annotation: ast.expr | None, names: dict[str, Any]) -> Any:
    """The annotation's type; Any if it uses classes outside typing and pydantic."""
    if annotation is None:
        return Any
    try:
        # only types can be used here: the source of a class is read, never run
        return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), dict(names))
    except Exception:  # an option can't be checked against this annotation
        return Any


def _constants(found: ast.ClassDef) -> dict[str, Any]:
    constants = {}
    for node in found.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and isinstance(value, ast.expr):
            try:
                constants[target.id] = ast.literal_eval(value)
            except ValueError:
                continue  # computed, not a plain literal
    return constants
