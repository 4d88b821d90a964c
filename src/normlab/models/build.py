"""A model from its config: the only place where names become modules."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from normlab.config.names import component_name
from normlab.config.schema import InputError, Sizes
from normlab.models.base import Model
from normlab.models.statistics import check_statistics
from normlab.norms.base import Norm


def build_model(norm: dict[str, Any], model: dict[str, Any], sizes: Sizes) -> Model:
    """The model of `conf/model` and `conf/norm`, after a check that it can be trained on data of these sizes.

    Initial values come from torch's global generator, so seed it first. Norms draw nothing from it:
    tensors that two norms share get the same values.

    Raises:
        InputError: the norm is not valid at a site of the model, or the model violates its contract.
    """
    built = assemble(norm, model, sizes)
    check_statistics(built, sizes)
    return built


def assemble(norm: dict[str, Any], model: dict[str, Any], sizes: Sizes) -> Model:
    """The same for a trained model, without a check against the data."""
    placed = model.get("norm_at") or {}
    options = {**model, "norm_at": {site: factory(node) for site, node in placed.items()}} if placed else model
    built: Model = factory(options, Model)(factory(norm), sizes)
    return built


_RECIPES = {
    Model: "class MyModel(Model), with __init__(self, norm, sizes, *, width=64) and forward(self, inputs, mask=None)",
    Norm: "class MyNorm(Norm)",
}


def factory(node: dict[str, Any], contract: type[Model | Norm] = Norm) -> partial[Any]:
    """The class that a node of the config names, with its options bound.

    Raises:
        InputError: it is not a subclass of the contract; nothing has been called.
    """
    # the same as hydra.utils.instantiate of a partial, without Hydra; `defaults` is in files that were read without
    # composing them, and is not an option
    module, _, name = node["_target_"].rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (isinstance(found, type) and issubclass(found, contract)):
        base = f"{contract.__module__}.{contract.__name__}"
        group = contract.__name__.lower()
        raise InputError(f"{group}={component_name(node)}: {name} must subclass {base}: {_RECIPES[contract]}")
    options = {key: value for key, value in node.items() if key not in ("_target_", "_partial_", "defaults")}
    return partial(found, **options)
