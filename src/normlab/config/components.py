"""Checks the options of norm and model: their types, and whether the two fit together. Imports no torch."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Any

from normlab.config.errors import InputError
from normlab.config.modules import find_module, not_found
from normlab.config.names import component_name
from normlab.config.parameters import Parameters, parameters
from normlab.config.signature import Signature, read, type_error

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig, TaskConfig

MODULE = "normlab.networks.module.Module"  # the model that is any network of the user's
PROJECT = "normlab.project.project.Project"  # what stands in the place of the model of a Lightning project

_KIND_OF_VIEW = {
    **{"images": "images", "rows": "features", "pixels": "features", "permuted_pixels": "features"},
    "series": "features",
    "table": "table",
}


def shown(value: object) -> str:
    """The value as written on the command line."""
    text = json.dumps(value, ensure_ascii=False, default=str).strip('"')
    return text if len(text) <= 100 else f"{text[:100]}…"


def lower(text: str) -> str:
    """The text with a lower-case first letter, to continue a sentence."""
    return text[:1].lower() + text[1:]


def checked_options(group: str, node: dict[str, Any]) -> Signature:
    """The signature of the chosen class, after a check that the options have the types of its constructor."""
    if not isinstance(node.get("_target_"), str):
        raise InputError(f"{group} has no _target_: choose one with {group}=NAME")
    signature = read(node["_target_"])
    _check_class(group, signature)
    for name, value in node.items():
        if name in ("_target_", "_partial_"):
            continue
        if name not in signature.options:
            near = difflib.get_close_matches(name, signature.options, n=1)
            hint = f" Did you mean {group}.{near[0]}?" if near else ""
            raise InputError(f"there is no option {group}.{name}.{hint} Options: {', '.join(signature.options)}.")
        wrong = type_error(signature.options[name], value)
        if wrong:
            raise InputError(f"{group}.{name}={shown(value)}: {lower(wrong)}.")
    return signature


def canonical(node: dict[str, Any], signature: Signature) -> dict[str, Any]:
    """The options with each value under one name."""
    aliases = signature.constants.get("aliases", {})
    return {key: aliases[key].get(value, value) if key in aliases else value for key, value in node.items()}


def decisive(node: dict[str, Any]) -> dict[str, Any]:
    """The options without those that were added later and are neutral, so that runs keep their ids."""
    neutral = read(node["_target_"]).constants.get("neutral", {})
    return {key: value for key, value in node.items() if key not in neutral or neutral[key] != value}


def code_named(*nodes: dict[str, Any] | None) -> list[str]:
    """The classes of norm and model, those of norms at some sites only, model=module's network, a project's classes."""
    own = [node["target"] for node in nodes if node and node["_target_"] in (MODULE, PROJECT)]
    others = [
        [node["data"] or node["target"], *node["callbacks"]] for node in nodes if node and "data_arguments" in node
    ]
    placed = [norm["_target_"] for node in nodes if node for norm in norms_at(node).values()]
    return [*(node["_target_"] for node in nodes if node), *own, *placed, *(name for names in others for name in names)]


def norms_at(model: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The norms that stand only at some sites of a model: site → its node."""
    found = model.get("norm_at")
    return found if isinstance(found, dict) else {}


def check_network(node: dict[str, Any], kind: str) -> None:
    """Can the network of model=module be found, and called with these arguments? Nothing is imported.

    Raises:
        InputError: it can't.
    """
    for number in re.findall(r'"data:([^"]*)"', json.dumps(node["arguments"])):
        if number not in NUMBERS[kind]:
            raise InputError(f"model.arguments: there is no data:{number} of {kind}, only {', '.join(NUMBERS[kind])}")
    check_call("model.target", str(node["target"]), "model.arguments", node["arguments"])


def check_call(option: str, target: str, arguments: str, given: dict[str, Any]) -> Parameters | None:
    """Can the user's class or function be found, and called with these arguments? Nothing is imported.

    Args:
        option: that names it, for messages; `arguments` likewise.

    Returns:
        What it can be called with; None if only importing it would tell.

    Raises:
        InputError: it can't.
    """
    module, _, name = target.rpartition(":")
    if not module or not name:
        raise InputError(f"{option}={target}: write MODULE:NAME, such as my_package.nets:UNet or nets.py:UNet")
    if find_module(module) is None:
        raise InputError(f"{option}={target}: {not_found(module)}")
    if (known := parameters(option, module, name)) is None:
        return None
    listed = ", ".join(f"{key}=..." if key in known.required else key for key in known.types) or "none"
    if strange := [key for key in given if key not in known.types]:
        raise InputError(f"{option}={target} has no argument {strange[0]}; its arguments: {listed}")
    if lacking := [key for key in known.required if key not in given]:
        raise InputError(f"{option}={target} needs {arguments}.{lacking[0]}=...; its arguments: {listed}")
    for key, value in given.items():
        if not str(value).startswith("data:") and (wrong := type_error(known.types[key], value)):
            raise InputError(f"{arguments}.{key}={shown(value)}: {lower(wrong)}.")
    return known


# kind of input → what `data:NAME` among a network's arguments may name
NUMBERS = {
    "images": ("outputs", "channels", "height", "width"),
    "features": ("outputs", "features", "length"),
    "tokens": ("outputs", "vocabulary", "length"),
    "table": ("outputs", "features"),
}


def _check_class(group: str, found: Signature) -> None:
    """Does a user's own class subclass the contract? A class whose bases can't all be read is accepted."""
    own, *bases = found.classes
    contract = "normlab.models.base.Model" if group == "model" else "normlab.norms.base.Norm"
    if contract not in bases and all(base.partition(".")[0] in ("torch", "abc", "builtins") for base in bases):
        name = contract.rpartition(".")[2]
        raise InputError(
            f"{group}: {own} must subclass {contract}, whose docstring lists the requirements: "
            f"class {own.rpartition('.')[2]}({name})"
        )


def kind_of(task: TaskConfig) -> str:
    """The kind of input (see `Sizes`) of a task."""
    return _KIND_OF_VIEW.get(task.view, "tokens")


def check_sites(config: RunConfig, norm: Signature, model: Signature) -> None:
    """Is the norm valid at the model's sites?"""
    name, nearest = config.norm_name, norm.constants.get("nearest", "layer")
    sites = model.constants["layouts"]
    if name == "own":
        _check_own(config)
    refused = [layout for layout in sites if layout not in norm.constants.get("layouts", sites)]
    if refused:
        where = _PLACES[refused[0]]
        raise InputError(f"norm={name} is not valid {where}, as in model={config.model_name}: use norm={nearest}")
    causal = config.task.goal == "language_modelling"
    if causal and "BTC" in sites and not norm.constants.get("causal", True):
        raise InputError(
            f"norm={name} takes its statistics over time, so a language model would see the text it should "
            f"predict: use norm={nearest}"
        )
    groups, width = config.norm.get("groups"), config.model.get("width")
    if isinstance(groups, int) and isinstance(width, int) and width % groups:
        near = max(n for n in range(1, groups + 1) if width % n == 0)
        raise InputError(
            f"norm.groups={groups} does not divide model.width={width}: use norm.groups={near} or another width"
        )


def _check_own(config: RunConfig) -> None:
    """Is there a network with norms of its own, and does the measure look at none?"""
    if config.model["_target_"] != MODULE:
        raise InputError(
            "norm=own keeps the norms of a network of your own: it works only with model=module or project=..."
        )
    asked = "measure.inside=true" if getattr(config.measure, "inside", False) else f"measure={config.measure.name}"
    if asked == "measure.inside=true" or config.measure.name in _LOOKS_AT_NORMS:
        raise InputError(f"{asked} looks at norms of normlab, and norm=own leaves none: name one, such as norm=batch")


_LOOKS_AT_NORMS = ("inference_time", "sample_coupling", "scale_invariance", "site_time")


def check_schedule(config: RunConfig, norm: Signature, steps: int | None = None) -> None:
    """Does the run reach the end of the norm's schedule?

    Args:
        steps: that the run will do, where the size of the data decides; None: what the config alone says.
    """
    said = f"the run's {steps} steps (trainer.epochs={config.trainer.epochs})"
    if steps is None:
        briefly = config.measure.name in _TRAIN_BRIEFLY
        steps = getattr(config.measure, "steps", None) if briefly else config.trainer.steps
        said = f"measure.steps={steps}" if briefly else f"the run's trainer.steps={steps}"
        if steps is None or not (briefly or config.measure.trains):
            return
    for name in norm.constants.get("counted", ()):
        value = config.norm.get(name, 0)
        if value > steps:
            raise InputError(
                f"norm.{name}={value} is more than {said}, so norm={config.norm_name} would "
                f"not get there: use norm.{name}={steps // 2}, or more steps"
            )


# measures that train for `measure.steps` instead of as long as the trainer's options say
_TRAIN_BRIEFLY = ("landscape", "leakage", "learning_rate_ceiling", "trainability")


_PLACES = {
    "BC": "at a site without spatial or time dimensions",
    "BCHW": "for images",
    "BTC": "for sequences",
}


def check_single(config: RunConfig, model: Signature, batch: str, share: int) -> None:
    """Would a norm need a single example's statistics, or those of more than there are? `batch` names the options."""
    nodes = (config.norm, *norms_at(config.model).values())
    if large := next((node["nbs"] for node in nodes if (node.get("nbs") or 0) > share), None):
        raise InputError(
            f"norm.nbs={large} is more than the {share} examples that a process gets at {batch}: "
            f"choose at most {share}, or leave it out for statistics of the whole batch"
        )
    if "BC" not in model.constants["layouts"]:
        return
    for node in nodes:
        norm, nbs = read(node["_target_"]), node.get("nbs")
        if norm.constants.get("axes", {}).get("BC") != "B" or node.get("after") == 0:
            continue
        if min(share, nbs or share) == 1:
            name, nearest = component_name(node), norm.constants.get("nearest", "layer")
            raise InputError(
                f"norm={name} has no statistics over a single example: {'norm.nbs=1' if nbs == 1 else batch} leaves "
                f"one per batch in model={config.model_name}; use 2 or more, or norm={nearest}"
            )
