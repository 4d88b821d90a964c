"""A Lightning project, built."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.data import sized_len
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch import nn

from normlab.config.components import check_call
from normlab.config.errors import InputError
from normlab.config.parameters import Parameters
from normlab.config.schema import RunConfig
from normlab.config.seeds import derive
from normlab.networks.target import callable_of, called
from normlab.project.lightning import use_one_lightning
from normlab.project.options import ProjectConfig, arguments, project_of
from normlab.project.order import seed_all


@dataclass(frozen=True)
class Project:
    """A project, untrained.

    data       None: the module has the loaders
    callbacks  besides those that the module configures itself
    """

    module: pl.LightningModule
    data: pl.LightningDataModule | None
    callbacks: list[pl.Callback]

    @property
    def source(self) -> pl.LightningModule | pl.LightningDataModule:
        """What has the loaders."""
        return self.module if self.data is None else self.data


def build(config: RunConfig, options: ProjectConfig) -> Project:
    """The project; the seed decides all that is random in its constructors, so for a seed all norms start equal.

    Raises:
        InputError: a class can't be imported or called, is of the wrong kind, or lacks a method that training needs.
    """
    use_one_lightning()
    seed_all(derive(config.seed, "init"))
    data = None
    if options.data is not None:
        data = called("project.data", options.data, options.data_arguments, "project.data_arguments")
        if not isinstance(data, pl.LightningDataModule):
            raise InputError(f"project.data={options.data} gives a {type(data).__name__}, not a LightningDataModule")
    given = arguments(config, options, _known(options))
    module = called("project", options.target, given, "project.arguments")
    if not isinstance(module, pl.LightningModule):
        plain = isinstance(module, nn.Module)
        hint = f": model=module model.target={options.target} trains a network on a task of normlab" if plain else ""
        raise InputError(f"project={options.target} gives a {type(module).__name__}, not a LightningModule{hint}")
    _check_methods(options, module, data)
    return Project(module, data, [one for name in options.callbacks for one in _callbacks(name)])


def batches(config: RunConfig) -> int:
    """Batches of an epoch of the run's project, in each process.

    Raises:
        InputError: see `build`; or its loader has no length, and the config doesn't say how many to take.
    """
    source = build(config, project_of(config)).source
    source.prepare_data()
    source.setup("fit")
    lengths = [sized_len(loader) for loader in CombinedLoader(source.train_dataloader(), "max_size_cycle").flattened]
    length = None if None in lengths else max(filter(None, lengths))
    if length is None and config.trainer.batches is None and config.trainer.steps is None:
        raise InputError(
            "the project's training data have no length: trainer.batches or trainer.steps says how many to take"
        )
    return 10**9 if length is None else math.ceil(length / config.trainer.processes)


def _known(options: ProjectConfig) -> Parameters:
    """What the LightningModule can be called with, by its source or else its signature."""
    found = check_call("project", options.target, "project.arguments", options.arguments)
    if found is not None:
        return found
    try:
        names = inspect.signature(callable_of("project", options.target)).parameters.values()
    except ValueError:
        names = ()  # type: ignore[assignment]
    if any(one.kind == one.VAR_KEYWORD for one in names):
        return Parameters(dict.fromkeys((options.lr or "lr", *options.arguments), Any), ())
    return Parameters({one.name: Any for one in names}, ())


def _callbacks(name: str) -> list[pl.Callback]:
    made = called("project.callbacks", name, {}, "project.callbacks")
    found = list(made) if isinstance(made, list | tuple) else [made]
    for one in found:
        if not isinstance(one, pl.Callback):
            raise InputError(f"project.callbacks: {name} gives a {type(one).__name__}, not a Callback of Lightning")
    return found


def _check_methods(options: ProjectConfig, module: pl.LightningModule, data: pl.LightningDataModule | None) -> None:
    for name in ("training_step", "configure_optimizers", "validation_step"):
        if not is_overridden(name, module):
            raise InputError(f"project={options.target} has no {name}: normlab reads metric=... after each validation")
    called = f"project={options.target}" if data is None else f"project.data={options.data}"
    for name in ("train_dataloader", "val_dataloader"):
        if not is_overridden(name, module if data is None else data):
            hint = "; project.data=MODULE:CLASS names a LightningDataModule" if data is None else ""
            raise InputError(f"{called} has no {name}, and a run needs training and validation data{hint}")
