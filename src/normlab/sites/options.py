"""A norm by its name or class, with options that are checked before anything is built."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any

import yaml
from torch import nn

from normlab.config.components import checked_options
from normlab.config.errors import InputError
from normlab.config.shipped import CONF
from normlab.config.signature import read
from normlab.models.build import factory
from normlab.norms.base import Norm

FROZEN = "frozen"  # no norm: batch norm's map in eval mode


def names() -> list[str]:
    """All norms of `conf/norm` that can replace another."""
    return sorted(path.stem for path in (CONF / "norm").glob("*.yaml") if path.stem != "own")


def check_also(also: Any) -> None:
    """Raise InputError unless `also` maps classes of modules to names of norms."""
    if not isinstance(also, Mapping):
        raise InputError(f"also={also!r} must map classes to names of norms, as in {{MyNorm: 'rms'}}")
    for key, norm in also.items():
        if not (isinstance(key, type) and issubclass(key, nn.Module)):
            raise InputError(f"also: {key!r} is not a class of modules; it must be one, as in {{MyNorm: 'rms'}}")
        _known(norm, [*names(), "rms_channel"])


def _known(norm: Any, known: list[str]) -> None:
    if norm in known:
        return
    near = difflib.get_close_matches(str(norm), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InputError(f"there is no norm {norm!r}.{hint} Norms: {', '.join(known)}")


def norm_factory(norm: str | type[Norm], options: dict[str, Any]) -> tuple[partial[Norm], frozenset[str]]:
    """The norm with its defaults and these options bound, and the names of all its options.

    Raises:
        InputError: there is no such norm or option, or a value has the wrong type.
    """
    if isinstance(norm, str):
        _known(norm, [*names(), FROZEN])
        node = _file(norm)
    elif isinstance(norm, type) and issubclass(norm, Norm):
        node = {"_target_": f"{norm.__module__}.{norm.__qualname__}"}
    else:
        raise InputError(f"norm={norm!r} is neither the name of a norm, such as 'layer', nor a class of norms")
    checked_options("norm", node | options)
    return factory(node | options), frozenset(read(node["_target_"]).options)


def _file(name: str) -> dict[str, Any]:
    text = (CONF / "norm" / f"{name}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))
