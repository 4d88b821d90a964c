"""What a class takes, read from its source without importing it (and so without importing torch).

A norm's or model's constructor is the only place where its options and their types are written down;
`read` makes them available before torch is loaded, so that a typing mistake is answered at once.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import typing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pydantic.types

from normlab.config.errors import InputError

_NAMES: dict[str, Any] = {
    "__builtins__": {kind.__name__: kind for kind in (int, float, bool, str, list, tuple, dict)},
    **{name: getattr(typing, name) for name in ("Any", "Literal", "Annotated", "Optional")},
    **{name: value for name, value in vars(pydantic.types).items() if name[0].isupper()},
    "Field": pydantic.Field,
}


@dataclass(frozen=True)
class Signature:
    """Options (keyword-only parameters) with their types, and the literal constants of a class."""

    options: dict[str, Any]
    constants: dict[str, Any]


@lru_cache
def read(target: str) -> Signature:
    """The signature of the class that a config's `_target_` names.

    Raises:
        InputError: there is no such module or class.
    """
    module, _, name = target.rpartition(".")
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(f"_target_ {target}: there is no module {module or target!r}")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    found = next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)
    if found is None:
        raise InputError(f"_target_ {target}: {module} defines no class {name}")
    names = {**_NAMES, **_aliases(tree)}
    init = next((n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    options = {arg.arg: _type(arg.annotation, names) for arg in init.args.kwonlyargs} if init else {}
    return Signature(options, _constants(found))


def type_error(hint: Any, value: object) -> str | None:
    """Why `value` is not of type `hint`, in words; None if it is."""
    try:
        # JSON is the common ground: YAML's lists may stand for tuples, while nothing else is converted
        pydantic.TypeAdapter(hint).validate_json(json.dumps(value), strict=True)
    except pydantic.ValidationError as error:
        return "; ".join(dict.fromkeys(problem["msg"] for problem in error.errors()))
    return None


def _aliases(tree: ast.Module) -> dict[str, Any]:
    """Module-level names of types, such as `Pool = Literal["tokens", "positions"]`."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            hint = _type(node.value, {**_NAMES, **found})
            if hint is not Any:
                found[node.targets[0].id] = hint
    return found


def _type(annotation: ast.expr | None, names: dict[str, Any]) -> Any:
    """The annotation's meaning; Any for one that names classes outside typing and pydantic."""
    if annotation is None:
        return Any
    try:
        # only types can be named here: the source of a class is read, never run
        return eval(compile(ast.Expression(annotation), "<annotation>", "eval"), dict(names))
    except Exception:  # whatever the annotation is, it is not one that an option can be checked against
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
