"""The command line's arguments, before Hydra reads them: flags in any order, and paths with any characters.

Hydra's grammar gives a meaning to many characters that are common in paths, and its flags must be consecutive.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from normlab.config.errors import InputError

# options whose value is the path of a file or a folder
PATHS = ("task.path", "output", "cache", "ckpt", "plan")
# options whose value is any text
TEXTS = (
    *("task.name", "logger.wandb.project", "logger.wandb.entity", "logger.wandb.group"),
    *("model.target", "project.target", "project.data"),
)
# options whose names are those of the arguments of the user's own code, so the config has none that one would replace
_ADDED = ("model.arguments.", "project.arguments.", "project.data_arguments.")
# Hydra's flags that are followed by a value
_VALUED = (
    *("--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn", "--cfg", "-c", "--package", "-p"),
    *("--experimental-rerun", "--info", "-i"),
)
# and those that stand alone
_FLAGS = (
    *("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m"),
    *("--shell-completion", "-sc"),
)
_MULTIRUN = {"-m", "--multirun"}
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_CFG = ("job", "hydra", "all")
# groups from which a run needs exactly one choice
_GROUPS = ("norm", "model", "task", "optim", "trainer", "logger", "measure", "launcher", "scale")
_SWEPT = ("norm", "model", "task", "optim", "trainer", "measure")
_SINGLE = {*_GROUPS, "study", "finding", "experiment"} - {"logger"}  # Hydra would merge a list of these
_STRAY = " \t'\""  # around a key: left over from quoting, or from spaces around the =
_DIGITS = 300  # digits of a number; no float64 has more


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """The arguments for Hydra: overrides first, with paths quoted where needed, then flags.

    Raises:
        InputError: an argument that Hydra would silently misread, or crash on.
    """
    choices, flags = _apart(arguments)
    if "--resolve" in flags and not any(flag.partition("=")[0] in ("--cfg", "-c") for flag in flags):
        raise InputError("--resolve resolves what is printed: write --cfg job --resolve")
    for choice in choices:
        _check_choice(choice)
        if choice.startswith("plan=") and _MULTIRUN & {*flags}:
            raise InputError(f"{choice}: a multirun sets this option itself; leave it out")
    written = [one for choice in choices for one in _project(choice)]
    if any(choice.startswith("compare=") for choice in written):
        _check_once(written)
        written, flags = _comparison(written), [*(flag for flag in flags if flag not in _MULTIRUN), "--multirun"]
    return [*map(_adding, map(quoted_path, written)), *flags]


def _check_once(choices: Sequence[str]) -> None:
    given = [choice for choice in choices if choice.startswith("compare=")]
    if len(given) > 1:
        raise InputError(f"{' '.join(given)}: compare is given twice; list all norms in one, as in compare=batch,layer")


def _adding(choice: str) -> str:
    return f"++{choice}" if choice.startswith(_ADDED) else choice


def _comparison(choices: Sequence[str]) -> list[str]:
    """`compare=batch,layer` in Hydra's terms: a list, and a scale of its own if none is chosen."""
    written = []
    for choice in choices:
        key, _, value = choice.partition("=")
        written.append(f"compare=[{','.join(map(quoted, _separated(value)))}]" if key == "compare" else choice)
    own = any(choice.startswith("scale=") for choice in choices)
    return written if own else [*written, "scale=compare"]


def _separated(value: str) -> list[str]:
    """`batch,group norm.groups=8` → its parts; commas within brackets separate nothing.

    Raises:
        InputError: a part is empty.
    """
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    parts, depth = [""], 0
    for letter in inner:
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [part.strip().strip("'\"").strip() for part in parts]
    if not all(parts):
        raise InputError(f"compare={value}: a norm is missing between the commas; write compare=batch,layer")
    return parts


def _project(choice: str) -> list[str]:
    """`project=module:Class` in Hydra's terms: a group and its option."""
    key, equals, value = choice.partition("=")
    if key != "project" or not equals or value in ("lightning", "null"):
        return [choice]
    if ":" not in value:
        raise InputError(
            f"{choice}: write MODULE:CLASS, such as my_package.training:LitSegmenter or training.py:LitSegmenter"
        )
    return ["project=lightning", f"project.target={value}"]


def _apart(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    choices: list[str] = []
    flags: list[str] = []
    left = list(arguments)
    while left:
        argument = left.pop(0)
        if not argument.startswith("-"):
            choices.append(argument)
            continue
        flags.append(argument)
        name, _, value = argument.partition("=")
        _check_flag(name, argument, left)
        if name in _VALUED and "=" not in argument and left and (name not in ("--info", "-i") or left[0] in _INFO):
            value = left.pop(0)
            flags.append(value)
        if name in ("--config-dir", "-cd") and not Path(value).is_dir():
            raise InputError(f"--config-dir {value}: there is no such folder")
        if name in ("--cfg", "-c") and value not in _CFG:
            raise InputError(f"{argument} {value}: choose {', '.join(_CFG[:-1])} or {_CFG[-1]}, for example --cfg job")
    return choices, flags


def _check_flag(name: str, argument: str, following: Sequence[str]) -> None:
    """`--norm layer` and `--norm=layer` are how other programs take options."""
    if name in (*_FLAGS, *_VALUED):
        return
    if any(flag.startswith(name) for flag in (*_FLAGS, *_VALUED)) and name.startswith("--") and len(name) > 3:
        return  # an abbreviation
    if "=" in argument:
        meant = argument.lstrip("-")
    else:
        has_value = bool(following) and "=" not in following[0] and not following[0].startswith("-")
        meant = f"{name.lstrip('-')}={following[0] if has_value else 'VALUE'}"
    raise InputError(f"{argument}: there is no such flag. Options are written without dashes: {meant}")


def _check_choice(choice: str) -> None:
    key, equals, value = choice.partition("=")
    bare = key.strip(_STRAY)
    if equals and (bare != key or not key):
        meant = f"{bare or 'key'}={value.strip(_STRAY) or 'value'}"
        raise InputError(f"{choice!r} is not of the form key=value: write {meant}, without spaces around the =")
    longest = max((len(digits) for digits in re.findall(r"\d+", value)), default=0)
    if longest > _DIGITS and key not in PATHS:
        raise InputError(f"{key}: a number of {longest:,} digits is too long for any option")
    if key.lstrip("+~") in _GROUPS and (choice.endswith(("=", "=null")) or key.startswith("~")):
        name = key.lstrip("+~")
        raise InputError(
            f"{choice}: a run needs one, {name}=NAME{' (logger=none turns logging off)' if name == 'logger' else ''}"
        )
    if (group := key.lstrip("+")) in _SINGLE and value.startswith("["):
        each = f", and -m {group}={value.strip('[]')} makes a run with each" if group in _SWEPT else ""
        raise InputError(f"{choice}: choices in brackets would be merged into one; give one, {group}=NAME{each}")
    if key == "hydra/sweeper" and value != "normlab":
        raise InputError(f"{choice}: only hydra/sweeper=normlab skips finished runs; leave this option out")


def quoted_path(choice: str) -> str:
    """`task.path=a=b.csv` → `task.path='a=b.csv'`; what Hydra can read, such as a sweep over paths, is unchanged.

    If a file of exactly that name exists, it takes precedence over Hydra's syntax.
    """
    key, equals, value = choice.partition("=")
    if key.lstrip("+") not in (*PATHS, *TEXTS) or not equals or not value:
        return choice
    read, meant = _read(choice)
    plain = read == value and "${" not in value
    if meant and (plain or not _exists(value)):
        return choice
    return f"{key}={quoted(value)}"


def quoted(value: str) -> str:
    """The text in single quotes and without interpolation, so that Hydra reads it unchanged."""
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
    return "'" + re.sub(r"(\\*)\$\{", r"\1\1\\${", escaped) + "'"


def how_to_quote(choice: str) -> str:
    """An override that Hydra can't read, quoted for the shell and for Hydra."""
    key, _, value = choice.partition("=")
    return shlex.quote(f"{key}={quoted(value)}")


def _read(choice: str) -> tuple[Any, bool]:
    """What Hydra reads, and whether it is a plausible path: a text, null, or a sweep or interpolation of these."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString
    from hydra.errors import HydraException

    try:
        (override,) = OverridesParser.create().parse_overrides([choice])
        value = override.value()
    except (HydraException, ValueError):
        return None, False
    if isinstance(value, ChoiceSweep):
        return value, all(isinstance(path, str | QuotedString) for path in value.list)
    raw = override._value
    if isinstance(raw, QuotedString):
        return raw, True
    return value, value is None or isinstance(value, str | Glob)


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def sweeps(arguments: Iterable[str], group: str) -> list[str]:
    """`norm=batch,layer` → `["batch", "layer"]`."""
    return [name for text in arguments if text.startswith(f"{group}=") for name in text.partition("=")[2].split(",")]
