"""Can every norm stand in the network? Builds each once, before any training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from normlab.config.errors import InputError
from normlab.config.schema import RunConfig


def check_networks(configs: Mapping[str, RunConfig]) -> None:
    """Build the network of each arm on the data's sizes; a Lightning project trains two batches, once for all arms.

    Raises:
        InputError: a norm can't stand in it, the data can't be read, or a project fails or doesn't log its metric.
    """
    projects = {arm: config for arm, config in configs.items() if config.measure.name == "project"}
    if projects:
        from normlab.project.rehearsal import check_norms  # imports torch, after everything that needs none

        check_norms(projects)
    networks = {arm: config for arm, config in configs.items() if arm not in projects}
    if not networks:
        return
    from normlab.data.load import load
    from normlab.models.build import build_model

    for arm, config in networks.items():
        sizes = load(config.task, Path(config.cache)).sizes
        try:
            build_model(config.norm, config.model, sizes)
        except InputError as error:
            raise InputError(f"{arm} can't stand in this network. {error}") from None
