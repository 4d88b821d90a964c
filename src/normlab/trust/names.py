"""Which classes a file may name. Imports no torch.

The command line and the user's own config files may name any class. A checkpoint, a run's folder or a study may come
from somebody else, so it may name only classes of normlab, or of modules that the user has named. Nothing is imported
to check this.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pydantic

from normlab.config.components import MODULE, PROJECT, checked_options, code_named, lower, norms_at, shown
from normlab.config.errors import InputError
from normlab.config.modules import find_module, module_file, module_of, not_found
from normlab.config.schema import RunConfig

_OURS = {"norm": ("normlab.norms.", "normlab.networks.own"), "model": ("normlab.models.",)}


def trusted_config(values: Any, trust: Iterable[str], origin: str) -> RunConfig:
    """The config stored in a file, checked before anything is built from it.

    Args:
        values: as read.
        trust: modules outside normlab that the user has named.
        origin: the file, in words.

    Raises:
        InputError: it is not a config of this version, or names a class that it may not name.
    """
    try:
        config = RunConfig.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        raise InputError(f"{origin} is damaged, or from another version: {_worded(error)}") from None
    except (TypeError, ValueError, RecursionError):
        raise InputError(f"{origin} is damaged: its config does not consist of plain values") from None
    check_targets(config, trust, origin)
    placed = [("norm", node) for node in norms_at(config.model).values()]
    for group, node in (("norm", config.norm), ("model", config.model), *placed):
        try:
            checked_options(group, node)
        except InputError as error:
            raise InputError(f"{origin} is damaged, or from another version: {error}") from None
    if against := getattr(config.measure, "against", None):  # the second norm of a timing
        check_target("norm", against, trust, origin)
    return config


def check_targets(config: RunConfig, trust: Iterable[str], origin: str) -> None:
    """Check that the file may name the classes of its norms and its model.

    Raises:
        InputError: one is neither of normlab nor from a module that the user has named.
    """
    check_target("norm", config.norm, trust, origin)
    check_target("model", config.model, trust, origin)
    placed = config.model.get("norm_at")
    if not (placed is None or (isinstance(placed, dict) and all(isinstance(node, dict) for node in placed.values()))):
        raise InputError(f"{origin} is damaged: its model.norm_at does not name norms")
    for node in norms_at(config.model).values():
        check_target("norm", node, trust, origin)


def check_target(group: str, node: dict[str, Any], trust: Iterable[str], origin: str) -> None:
    """Check that the file may name this class.

    Raises:
        InputError: it is neither a norm or model of normlab nor from a module that the user has named.
    """
    target = node.get("_target_")
    parts = target.split(".") if isinstance(target, str) else []
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise InputError(f"{origin} is damaged: its {group} names no class")
    module = ".".join(parts[:-1])
    if group == "model" and target == MODULE:
        own = node.get("target")
        module = module_of(own) if isinstance(own, str) else ""
        if ":" not in str(own) or not _within(module, trust):
            raise InputError(_refusal(group, str(own), module, origin))
        if find_module(module) is None:
            raise InputError(f"{origin}: {not_found(module)}")
        return
    if group == "model" and target == PROJECT:
        raise InputError(f"{origin} holds a Lightning project, which its own code loads: see docs/lightning-project.md")
    if module.startswith(_OURS[group]):
        return
    if parts[0] == "normlab" or not _within(module, trust):
        raise InputError(_refusal(group, ".".join(parts), module, origin))
    if module_file(module) is None:
        raise InputError(
            f"{origin}: there is no module {shown(module)} for its {group}: put the folder that holds "
            f"{shown(parts[0])}.py on Python's path, as in PYTHONPATH=FOLDER"
        )


def _within(module: str, trust: Iterable[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in trust)


def named_modules(*nodes: dict[str, Any]) -> list[str]:
    """The modules that the user's own command names, which therefore are trusted."""
    return [module_of(name) for name in code_named(*nodes)]


def only_ours(*nodes: dict[str, Any]) -> bool:
    """Whether norm and model are normlab's own."""
    return all(name.startswith("normlab.") and ":" not in name for name in code_named(*nodes))


def _refusal(group: str, target: str, module: str, origin: str) -> str:
    refused = f"{origin} would run code: its {group} is {shown(target)}, which is not a {group} of normlab"
    if module.partition(".")[0] == "normlab":
        return refused
    named = module if len(module) <= 100 else "MODULE"
    return (
        f"{refused}. If you trust that module, name it: trust=[{named}] on the command line, "
        f'load_checkpoint(..., trust=["{named}"]) in Python'
    )


def _worded(error: pydantic.ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])[:100]
    if problem["type"] == "extra_forbidden":
        return f"there is no option {key}"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":  # what our own validators say
        return str(problem["ctx"]["error"])
    return f"{key}={shown(problem['input'])}: {lower(problem['msg'])}"
