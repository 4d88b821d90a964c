"""When a run validates: the requested number of times per epoch, evenly spaced, for any number of batches."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl

from normlab.config.measures.training import places
from normlab.config.schema import InputError


class Validations(pl.Callback):
    """Validates after batches round(k · batches / count) of an epoch, k = 1 … count.

    Lightning accepts only an interval of whole batches: with 98 batches, 60 validations need an interval of 1, and
    that gives 98 validations.

    Args:
        count: validations per epoch.
    """

    def __init__(self, count: int) -> None:
        self.count = count

    def on_train_batch_start(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the interval so that Lightning validates after this batch or not."""
        batches = int(trainer.num_training_batches)
        trainer.val_check_batch = 1 if batch_idx + 1 in places(self.count, batches) else batches + 1


def check_validations(count: int, batches: int) -> None:
    """Check that an epoch has enough batches.

    Raises:
        InputError: it has fewer batches than validations.
    """
    if count > batches:
        raise InputError(
            f"trainer.validations={count}: an epoch has {batches} training batches here, "
            f"so it can validate at most {batches} times"
        )
