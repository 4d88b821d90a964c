"""Can every norm stand in the network? Builds each once, before any training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from normlab.config.errors import InputError
from normlab.config.schema import RunConfig


def check_networks(configs: Mapping[str, RunConfig]) -> None:
    """Build the network of each arm on the data's sizes; those of Lightning projects are checked by their own runs.

    Raises:
        InputError: a norm can't stand in it, or the data can't be read.
    """
    from normlab.data.load import load  # imports torch, after everything that needs none
    from normlab.models.build import build_model

    for arm, config in configs.items():
        if config.measure.name == "project":
            continue
        sizes = load(config.task, Path(config.cache)).sizes
        try:
            build_model(config.norm, config.model, sizes)
        except InputError as error:
            raise InputError(f"{arm} can't stand in this network. {error}") from None
