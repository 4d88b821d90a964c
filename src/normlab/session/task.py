"""Builds the task of a config from a model and data."""

from __future__ import annotations

from typing import Any

from normlab.config.schema import RunConfig
from normlab.data.load import Data
from normlab.data.splits import Windows
from normlab.models.base import Model
from normlab.models.checkpoint import describe
from normlab.models.statistics import check_statistics
from normlab.tasks.classification import Classification
from normlab.tasks.language_modelling import LanguageModelling
from normlab.tasks.regression import Regression
from normlab.tasks.segmentation import Segmentation
from normlab.tasks.task import Task


def build_task(config: RunConfig, model: Model, data: Data) -> Task:
    """The LightningModule for the config's kind of task.

    Raises:
        InputError: in training, a batch would give a norm only a single value to normalise.
    """
    if not config.measure.reads_checkpoint:
        check_statistics(model, data.sizes, _examples_a_batch(config, data))
    common: dict[str, Any] = {
        "model": model,
        "sizes": data.sizes,
        "optim": config.optim,
        "record": describe(config, data.sizes, data.record),
    }
    if data.sizes.dense:
        return Segmentation(classes=data.classes or (), **common)
    if data.target is not None:
        return Regression(unit=data.target[1], **common)
    if data.classes is not None:
        return Classification(**common)
    assert data.characters is not None
    tokens = {name: split.predicted for name, split in data.splits.items() if isinstance(split, Windows)}
    rates = {name: tokens[name] / characters for name, characters in data.characters.items()}
    return LanguageModelling(tokens_per_character=rates, **common)


def _examples_a_batch(config: RunConfig, data: Data) -> int:
    """The number of training examples per batch of one process, whose statistics it can pool."""
    world = 1 if config.norm.get("sync") else config.trainer.processes
    return max(1, min(config.task.batch_size, len(data.split("train"))) // world)
