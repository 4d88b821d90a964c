"""Checkpoints that are whole or not there."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities.types import _PATH
from pytorch_lightning.plugins.io import TorchCheckpointIO

from normlab.config.schema import InputError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a new file next to the old checkpoint, then replaces it, so that a full disk never harms the old one."""

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
            torch.save(checkpoint, content)  # into a file, it hides why it could not write
            with part.open("wb") as file:  # Lightning's way begins in the system's temporary folder
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            part.replace(final)
        except OSError as error:
            part.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            kept = f"the previous {final.name} is still good" if final.exists() else "there is no earlier one"
            raise InputError(f"the disk is full: {final} could not be written; {kept}") from error
