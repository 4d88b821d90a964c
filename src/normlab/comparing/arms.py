"""The norms of `compare=batch,layer,'group norm.groups=8'`, each an arm. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

from normlab.config.errors import InputError


def arms(asked: Sequence[str]) -> dict[str, list[str]]:
    """The overrides of each arm, the first of them the one that all others are compared with.

    Args:
        asked: a norm's name each, which its options may follow, such as `batch norm.nbs=4`.

    Raises:
        InputError: fewer than two, two that are equal, or options that are not those of a norm.
    """
    found: dict[str, list[str]] = {}
    for text in asked:
        name, *options = text.split()
        choices = [f"norm={name.removeprefix('norm=')}", *options]
        wrong = next((one for one in options if not re.fullmatch(r"[+~]{0,2}norm\.\w[\w.]*=.+", one)), None)
        if wrong is not None:
            raise InputError(
                f"compare: {text!r}: a norm's name is followed by its options, as norm.groups=8, not {wrong}"
            )
        arm = _named(choices)
        if arm in found:
            raise InputError(f"compare lists {text!r} twice")
        found[arm] = choices
    if len(found) < 2:
        raise InputError(f"compare={','.join(asked)}: a comparison needs two norms, as in compare=batch,layer")
    return found


def _named(choices: Sequence[str]) -> str:
    """The arm of `norm=group norm.groups=8`, as formulas name it: "group_groups_8"."""
    norm, *options = choices
    words = [norm.partition("=")[2], *(option.lstrip("+~").removeprefix("norm.") for option in options)]
    name = re.sub(r"\W+", "_", "_".join(words), flags=re.ASCII).strip("_")
    return name if name[:1].isalpha() else f"norm_{name}"
