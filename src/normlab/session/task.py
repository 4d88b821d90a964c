"""The task that a config names, with a model and data."""

from __future__ import annotations

from typing import Any

from torch import nn

from normlab.config.schema import RunConfig
from normlab.data.load import Data
from normlab.data.splits import Windows
from normlab.models.checkpoint import describe
from normlab.tasks.classification import Classification
from normlab.tasks.language_modelling import LanguageModelling
from normlab.tasks.task import Task


def build_task(config: RunConfig, model: nn.Module, data: Data) -> Task:
    """The LightningModule for the config's goal."""
    common: dict[str, Any] = {
        "model": model,
        "sizes": data.sizes,
        "optim": config.optim,
        "record": describe(config, data.sizes, data.record),
    }
    if config.task.goal == "classification":
        return Classification(**common)
    assert data.characters is not None
    tokens = {name: split.predicted for name, split in data.splits.items() if isinstance(split, Windows)}
    rates = {name: tokens[name] / characters for name, characters in data.characters.items()}
    return LanguageModelling(tokens_per_character=rates, **common)
