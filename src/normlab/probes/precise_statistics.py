"""Evaluates batch norm with precise statistics instead of a moving average."""

from __future__ import annotations

from itertools import islice

import pytorch_lightning as pl
import torch

from normlab.norms.precise import needs_refreshing, refresh_statistics
from normlab.tasks.task import Task


class PreciseStatistics(pl.Callback):
    """Before each validation, recomputes the running statistics of norms with `evaluation=precise`.

    Checkpoints are saved after validation, so they contain the statistics with which they were chosen, and testing them
    needs no training data. Training has the same batches and random numbers with and without this callback.

    Args:
        batches: training batches to pool, at most; the epoch's first ones, in its order. 1,000 to 10,000
            examples are enough (Wu and Johnson 2021, arXiv:2105.07576).
    """

    def __init__(self, batches: int = 64) -> None:
        self.batches = batches

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Run the model, in eval mode, over training batches."""
        assert isinstance(task, Task)
        loader = trainer.train_dataloader
        if loader is None or not needs_refreshing(task.model):
            return
        with torch.random.fork_rng(), refresh_statistics(task.model):
            for batch in islice(loader, self.batches):
                batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
                with trainer.precision_plugin.forward_context():
                    task.model(batch.inputs, batch.mask)  # eager, because the compiled form can't do this
