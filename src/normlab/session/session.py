"""What training and evaluation set up alike: threads, data, the task, the trainer."""

from __future__ import annotations

import logging
import os
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.loggers import Logger
from torch import nn

from normlab.config.schema import RunConfig
from normlab.data.load import Data, load
from normlab.data.splits import Windows
from normlab.folder.place import Place
from normlab.models.checkpoint import describe
from normlab.session.checkpointing import AtomicCheckpointIO
from normlab.session.devices import check_devices
from normlab.tasks.classification import Classification
from normlab.tasks.language_modelling import LanguageModelling
from normlab.tasks.task import Task


def prepare(config: RunConfig) -> Data:
    """Set torch up as the config asks for and load the data.

    Raises:
        InputError: there is no GPU where one is asked for, or the data can't be used.
    """
    quiet()
    check_devices(config.trainer)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    return load(config.task, Path(config.cache))


def quiet() -> None:
    """Leave out Lightning's hints that don't concern the user: what matters, the run says itself."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for hint in (
        ".*does not have many workers.*",
        ".*number of training batches.*",
        ".*already configured.*",
        ".*LeafSpec.*",
        ".*your dataloader is not resumable.*",  # its sampler is
        ".*exists and is not empty.*",  # the checkpoints of a resumed run
        ".*`srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", hint)
    warnings.filterwarnings("ignore", ".*", module="pytorch_lightning.trainer.connectors.*")


def build_task(config: RunConfig, model: nn.Module, data: Data) -> Task:
    """The LightningModule for the config's goal."""
    common: dict[str, Any] = {
        "model": model,
        "sizes": data.sizes,
        "optim": config.optim,
        "record": describe(config, data.sizes),
        "forward": torch.compile(model) if config.trainer.compile else None,
    }
    if config.task.goal == "classification":
        return Classification(**common)
    assert data.characters is not None
    tokens = {name: split.predicted for name, split in data.splits.items() if isinstance(split, Windows)}
    rates = {name: tokens[name] / characters for name, characters in data.characters.items()}
    return LanguageModelling(tokens_per_character=rates, **common)


def build_trainer(config: RunConfig, place: Place, loggers: list[Logger], callbacks: list[pl.Callback]) -> pl.Trainer:
    """Lightning's trainer; the loaders shard the data and the callbacks report, so its own means are off."""
    options = config.trainer
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    several = options.devices * options.nodes > 1
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        alone = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) == 1  # a command that starts its own processes
        # submitit requeues, after the run has saved
        plugins.append(LightningEnvironment() if several and alone else SLURMEnvironment(auto_requeue=False))
    trainer = pl.Trainer(
        default_root_dir=place.folder,
        accelerator="cuda" if options.accelerator == "gpu" else "cpu",
        devices=options.devices,
        num_nodes=options.nodes,
        strategy="ddp" if several else "auto",
        precision=options.precision,
        max_epochs=options.epochs,
        max_steps=options.steps or -1,
        max_time=timedelta(minutes=options.minutes) if options.minutes else None,
        limit_train_batches=options.batches,
        limit_val_batches=options.batches,
        limit_test_batches=options.batches,
        val_check_interval=1 / options.validations,
        deterministic=options.deterministic,
        logger=loggers,
        callbacks=callbacks,
        plugins=plugins,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    # Lightning's own handlers would end a test at SIGTERM with status 0, and have processes talk inside a handler
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer
