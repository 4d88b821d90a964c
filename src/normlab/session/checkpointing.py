"""Checkpoints, written completely or not at all, and which of them is the best."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.types import _PATH
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn

from normlab.config.schema import InputError
from normlab.folder.run_folder import RunFolder
from normlab.folder.seal import seal
from normlab.models.checkpoint import put_weights, read_checkpoint, state_of_task
from normlab.session.validation_curve import Curve


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a sealed file next to the old checkpoint, then replaces it: a full disk never harms the old one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Save atomically.

        Raises:
            InputError: the disk is full; the previous checkpoint is as it was.
        """
        final = Path(path)
        part = final.with_name(f".{final.name}.part")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            content = io.BytesIO()
            torch.save(checkpoint, content)  # writing to a file itself, torch.save would hide why it failed
            seal(content)
            with part.open("wb") as file:  # Lightning's own method writes to the system's temporary folder first
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            part.replace(final)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            kept = f"the previous {final.name} is intact" if final.exists() else "there is no previous one"
            raise InputError(f"the disk is full: {final} could not be written; {kept}") from error


class KeepBest(pl.callbacks.Checkpoint):
    """Keeps the checkpoint of the best validation.

    The best validation is found in the run's own validation curve. Lightning's ModelCheckpoint would store it with the
    absolute path of its folder, and forget it if the folder is moved.
    """

    def __init__(self, folder: RunFolder, curve: Curve) -> None:
        self.folder = folder
        self.curve = curve

    def on_validation_end(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Save if this validation is the best so far; Lightning calls checkpoint callbacks last."""
        validated = trainer.state.fn == TrainerFn.FITTING and self.curve.last_step == trainer.global_step
        if validated and self.curve.best() is self.curve.rows[-1]:
            trainer.save_checkpoint(self.folder.best)


def load_best(folder: RunFolder, curve: Curve, task: nn.Module) -> None:
    """Load the weights of the best validation into the task.

    Raises:
        InputError: the checkpoint is missing, damaged, or from another step.
    """
    best, checkpoint = curve.best(), read_checkpoint(folder.best)
    if best is None or checkpoint.get("global_step") != best["step"]:
        raise InputError(
            f"{folder.best} is from step {checkpoint.get('global_step')}, but the best validation was at step "
            f"{best['step'] if best else 'none'}: repeat the run with rerun=true"
        )
    put_weights(task, state_of_task(checkpoint, folder.best), folder.best)
