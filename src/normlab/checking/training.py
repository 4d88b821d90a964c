"""A hundred watched steps, and a report."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import chain, islice
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn

from normlab.checking.named import data, trainable
from normlab.config.errors import InputError
from normlab.monitor.callback import NormMonitor
from normlab.monitor.gap import Gap, train_eval_gap
from normlab.monitor.report import Report
from normlab.networks.target import said

_BROADCAST = "Using a target size"  # torch's words for a loss of [B, 1] and [B], which pairs each with each
BATCHES = 8  # of each kind, for validation and for the gap between training and evaluation


def checked(
    target: str,
    source: str | None,
    *,
    task: str | None,
    steps: int,
    batch_size: int,
    tell: Callable[[str], None],
) -> Report:
    """Train on the CPU, validate twice, and say what the monitor found.

    Args:
        target: of the LightningModule or the network.
        source: of the data.
        task: of a network without a loss.
        steps: of the training, if its data don't end earlier.
        batch_size: for a dataset that has no loader.
        tell: is given what the monitor says about itself.

    Raises:
        InputError: they can't be imported, or the training fails.
    """
    module = trainable(target, task)
    batches = data(source, module, batch_size)
    monitor = NormMonitor(every=5, budget=0.2, say=tell, quiet=True)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings(record=True) as warned, tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("once", message=_BROADCAST)
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_steps=steps, max_epochs=-1, callbacks=[monitor], default_root_dir=folder,
            val_check_interval=max(1, steps // 2), check_val_every_n_epoch=None, limit_val_batches=BATCHES,
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            num_sanity_val_steps=0,
        )  # fmt: skip
        try:
            _fit(trainer, module, batches)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(f"{target} fails in step {trainer.global_step + 1}: {said(error)}") from error
        for each in warned:
            tell(f"the loss compares outputs and targets of different shapes: {' '.join(str(each.message).split())}")
        gap = _gap(trainer, module, tell)
    return replace(monitor.report(), gap=gap)


def _fit(trainer: pl.Trainer, module: pl.LightningModule, batches: dict[str, Any]) -> None:
    trainer.fit(module, **batches)
    if not trainer.global_step:
        raise InputError("the data have no batch to train on")


def _gap(trainer: pl.Trainer, module: pl.LightningModule, tell: Callable[[str], None]) -> Gap | None:
    """By the module's own training loss; None without validation data, or if a loss needs more than the batch."""
    training, validation = (_batches(loaders) for loaders in (trainer.train_dataloader, trainer.val_dataloaders))
    if not training or not validation:
        return None
    module._trainer = None  # so that what the module logs goes nowhere
    try:
        return train_eval_gap(module, _loss, training, validation)
    except InputError as error:
        tell(f"the gap between training and evaluation isn't shown: {error}")
        return None


def _batches(loaders: Any) -> list[Any]:
    if loaders is None:
        return []
    every: Iterable[Iterable[Any]] = loaders if isinstance(loaders, list | tuple) else [loaders]
    with suppress(TypeError):  # loaders in a dictionary and the like: their batches aren't those of `training_step`
        return list(islice(chain.from_iterable(every), BATCHES))
    return []


def _loss(module: nn.Module, batch: Any) -> Tensor:
    found = module.training_step(batch, 0)  # type: ignore[operator]
    loss: Tensor = found["loss"] if isinstance(found, dict) else found
    return loss
