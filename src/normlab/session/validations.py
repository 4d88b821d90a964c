"""When a run validates: as often an epoch as asked for, evenly spaced, whatever the number of batches."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from normlab.config.schema import InputError


class Validations(pl.Callback):
    """Validates after batches round(k · batches / count) of an epoch, k = 1 … count.

    Lightning takes an interval alone, a whole number of batches: of 98 batches it makes 98 validations when 49 % of
    the batches' number are asked for.

    Args:
        count: validations in an epoch.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def on_train_batch_start(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the interval so that Lightning validates after this batch or not."""
        batches = int(trainer.num_training_batches)
        trainer.val_check_batch = 1 if batch_idx + 1 in places(self.count, batches) else batches + 1


def places(count: int, batches: int) -> set[int]:
    """The batches of an epoch, counted from 1, after which it validates; halves are rounded up."""
    return {(2 * k * batches + count) // (2 * count) for k in range(1, count + 1)}


def check_validations(count: int, batches: int) -> None:
    """Are there enough batches?

    Raises:
        InputError: no.
    """
    if count > batches:
        raise InputError(
            f"trainer.validations={count}: an epoch has {batches} training batches here, "
            f"so it can validate at most {batches} times"
        )
