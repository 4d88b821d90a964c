"""Norms that stand only at some sites of a model, `model.norm_at`. Imports no torch."""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, Any

import yaml

from normlab.config.components import check_schedule, check_sites, checked_options, norms_at, shown
from normlab.config.errors import InputError
from normlab.config.names import component_name
from normlab.config.shipped import CONF
from normlab.config.signature import Signature, read

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig


def with_norms(node: dict[str, Any]) -> dict[str, Any]:
    """The options of a model with each norm of its `norm_at` complete, with all its options.

    A norm is written as its name, or as a mapping of `norm`, its name, and options: `{norm: batch, momentum: 0.2}`.

    Raises:
        InputError: a norm is neither, or there is none of that name.
    """
    written = node.get("norm_at")
    if written is None:
        return node
    if not isinstance(written, dict) or not written:
        raise InputError(
            f"model.norm_at={shown(written)}: write which norm stands at which site, as in "
            "'model.norm_at={layer1: batch, layer2: layer}'"
        )
    return {**node, "norm_at": {str(site): _complete(str(site), norm) for site, norm in written.items()}}


def _complete(site: str, written: Any) -> dict[str, Any]:
    if isinstance(written, dict) and "_target_" in written:  # complete already, or a norm of the user's own
        return written
    options = dict(written) if isinstance(written, dict) else {"norm": written}
    name = options.pop("norm", None)
    known = sorted(path.stem for path in (CONF / "norm").glob("*.yaml") if path.stem != "own")
    if name is None:
        given = f"{{norm: layer, {', '.join(f'{key}: {shown(value)}' for key, value in options.items())}}}"
        example = given if options else "layer"
        raise InputError(f"model.norm_at: {site} has no norm; name one, as in {site}: {example}")
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise InputError(f"model.norm_at: there is no norm {shown(name)} for {site}.{hint} Norms: {', '.join(known)}.")
    defaults = yaml.safe_load((CONF / "norm" / f"{name}.yaml").read_text(encoding="utf-8"))
    return {**defaults, **options}


def check_placed(config: RunConfig, model: Signature) -> None:
    """Are the sites of `model.norm_at` sites of the model, its norms valid there, and are there none for Fixup?

    Raises:
        InputError: one is not.
    """
    placed_norms = config.model.get("norm_at") or {}
    norms = {component_name(norm) for norm in (config.norm, *placed_norms.values())} - {"none"}
    for option, values in model.constants.get("normless", {}).items():
        if norms and config.model[option] in values:
            raise InputError(
                f"model.{option}={config.model[option]} is for networks without norms: use norm=none, or leave out "
                f"model.{option} with norm={min(norms)}"
            )
    for site, norm in placed_norms.items():
        _check_site(site, config, model)
        try:
            signature = checked_options("norm", norm)
            placed = config.model_copy(update={"norm": norm})
            check_sites(placed, signature, model)
            check_schedule(placed, signature)
        except InputError as error:
            raise InputError(f"model.norm_at, {site}: {error}") from None


def check_schedules(config: RunConfig, steps: int) -> None:
    """Does a run of so many steps reach the end of the schedules of all its norms?

    Raises:
        InputError: it does not.
    """
    for node in (config.norm, *norms_at(config.model).values()):
        check_schedule(config.model_copy(update={"norm": node}), read(node["_target_"]), steps)


def _check_site(site: str, config: RunConfig, model: Signature) -> None:
    roles: tuple[str, ...] = model.constants.get("roles", ())
    layers = math.prod(config.model[name] for name in model.constants["depth"])
    layer, _, role = site.rpartition(".")
    if not layer and re.fullmatch(r"layer\d+", role):
        layer, role = role, ""
    number = re.fullmatch(r"layer([1-9]\d*)", layer)
    known = not role or role in roles
    if not known or (layer and not (number and int(number[1]) <= layers)) or not site:
        named = f"layer1 to layer{layers}" if layers > 1 else "layer1"
        also = f", {', '.join(roles)}, or both, as in layer1.{roles[-2]}" if roles else ""
        raise InputError(
            f"model.norm_at: model={config.model_name} has no site {shown(site)}; its sites are {named}{also}"
        )
