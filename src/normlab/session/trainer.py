"""Lightning's trainer, set up for normlab."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment
from pytorch_lightning.loggers import Logger

from normlab.config.schema import RunConfig
from normlab.session.checkpointing import AtomicCheckpointIO
from normlab.session.session import Session


def build_trainer(
    config: RunConfig,
    folder: Path,
    loggers: list[Logger],
    callbacks: list[pl.Callback],
    own: Mapping[str, Any] | None = None,
) -> pl.Trainer:
    """Lightning's trainer without its own sharding and reporting, because our loaders and callbacks do both.

    Args:
        own: the options of a Lightning project, which may replace how many batches there are, when it validates, and
            how several processes share the work.
    """
    options = config.trainer
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    several = options.processes > 1
    plugins: list[Any] = [AtomicCheckpointIO()]
    if SLURMEnvironment.detect():
        alone = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) == 1  # for a command that starts its own processes
        # submitit requeues, after the run has saved
        plugins.append(LightningEnvironment() if several and alone else SLURMEnvironment(auto_requeue=False))
    replaceable: dict[str, Any] = {
        "limit_train_batches": options.batches,
        "limit_val_batches": options.batches,
        "val_check_interval": 1.0,  # see `Validations`
        "strategy": "ddp" if several else "auto",
        "use_distributed_sampler": False,
        **(own or {}),
    }
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cuda" if options.accelerator == "gpu" else "cpu",
        devices=options.devices,
        num_nodes=options.nodes,
        precision=options.precision,
        max_epochs=options.epochs,
        max_steps=options.steps or -1,
        max_time=timedelta(minutes=options.minutes) if options.minutes else None,
        limit_test_batches=options.batches,
        deterministic=options.deterministic,
        logger=loggers,
        callbacks=callbacks,
        plugins=plugins,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, pl.callbacks.Checkpoint) for c in callbacks),
        num_sanity_val_steps=0,
        **replaceable,
    )
    # at SIGTERM, Lightning's own handlers would end a test with status 0, and communicate inside a handler
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    return trainer


def batches_of(session: Session, trainer: pl.Trainer, split: str, seed: int | None = None) -> Any:
    """This process's batches of a split, on its device: for evaluation or, with a seed, in that order for training."""
    device, rank, world_size = trainer.strategy.root_device, trainer.global_rank, trainer.world_size
    return session.batches(split, device, seed=seed, rank=rank, world_size=world_size)
