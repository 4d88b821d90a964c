"""A model from its config: the only place where names become modules."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

from normlab.config.schema import Sizes
from normlab.models.base import Model


def build_model(norm: dict[str, Any], model: dict[str, Any], sizes: Sizes) -> Model:
    """The model that `conf/model` and `conf/norm` describe, for data of these sizes.

    Initial values come from torch's global generator, so seed it first. Norms draw nothing from it:
    tensors that two norms share get the same values.
    """
    built: Model = factory(model)(factory(norm), sizes)
    return built


def factory(node: dict[str, Any]) -> partial[Any]:
    """The class that a node of the config names, with its options chosen."""
    # the same as hydra.utils.instantiate of a partial, where Hydra is not installed
    module, _, name = node["_target_"].rpartition(".")
    options = {key: value for key, value in node.items() if key not in ("_target_", "_partial_")}
    return partial(getattr(importlib.import_module(module), name), **options)
