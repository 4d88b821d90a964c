"""What any class or function can be called with, read from its source without importing it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from normlab.config.errors import InputError
from normlab.config.modules import module_file
from normlab.config.signature import Source, source_of, type_of


@dataclass(frozen=True)
class Parameters:
    """What a function, or a class's constructor, can be called with by name.

    types     of its parameters
    required  those without a default
    """

    types: dict[str, Any]
    required: tuple[str, ...]


def parameters(option: str, module: str, name: str) -> Parameters | None:
    """The parameters of any function or class, by its source; None if only importing it would tell.

    Raises:
        InputError: its source can't be parsed, or has no such name.
    """
    if module_file(module) is None:
        return None
    source = source_of(module, f"{module}:{name}")
    if found := source.defined(name):
        return _called(*found)
    here = [node.name for node in source.tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    words = {word for node in ast.walk(source.tree) for word in vars(node).values() if isinstance(word, str)}
    if name.isidentifier() and not {name, "*", "__getattr__"} & words:
        there = ", ".join(here)[:200] or "nothing that can be called"
        raise InputError(f"{option}={module}:{name}: {module} defines no {name}; it defines {there}")
    return None


def _called(source: Source, found: ast.ClassDef | ast.FunctionDef) -> Parameters | None:
    if found.decorator_list:  # which may change what it is called with
        return None
    function, first = found, 0
    if isinstance(found, ast.ClassDef):
        init = next((n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if init is None:
            base = source.dotted(found.bases[0]) if len(found.bases) == 1 else None
            return Parameters({}, ()) if base in ("torch.nn.Module", "torch.nn.modules.module.Module") else None
        function, first = init, 1
    assert isinstance(function, ast.FunctionDef)
    args, names = function.args, source.names()
    if args.posonlyargs or args.kwarg or args.vararg or function.decorator_list:
        return None
    needed = args.args[first : len(args.args) - len(args.defaults)]
    needed += [arg for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True) if default is None]
    every = (*args.args[first:], *args.kwonlyargs)
    return Parameters({arg.arg: type_of(arg.annotation, names) for arg in every}, tuple(arg.arg for arg in needed))
