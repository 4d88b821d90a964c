"""Which parameters some backward pass leaves without a gradient: DDP fails without a search for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

SEARCHING = "ddp_find_unused_parameters_true"


class Unused(pl.Callback):
    """Notes the parameters that got no gradient in this process, in any of its backward passes.

    Meanwhile the processes don't average their gradients, in which they would fail.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._all: set[str] = set()
        self._used: set[str] = set()
        self._handles: list[Any] = []

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Listen to all that DDP waits for; one process alone misses nothing."""
        if not isinstance(trainer.strategy.model, DistributedDataParallel):
            return
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                self._all.add(name)
                self._handles.append(parameter.register_post_accumulate_grad_hook(self._listener(name)))

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Let each process keep its own gradients in this step."""
        if isinstance(trainer.strategy.model, DistributedDataParallel):
            trainer.strategy.model.require_backward_grad_sync = False

    def on_before_backward(self, trainer: pl.Trainer, module: pl.LightningModule, loss: Tensor) -> None:
        """A pass begins; a project with manual optimisation has several in a step."""
        self._used.clear()

    def on_after_backward(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """It ends."""
        self.names |= self._all - self._used

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop."""
        for handle in self._handles:
            handle.remove()

    def _listener(self, name: str) -> Any:
        def listen(_parameter: Tensor) -> None:
            self._used.add(name)

        return listen


def said_of(unused: Sequence[str]) -> str:
    """Why DDP searches for unused parameters in each step, in a line."""
    named = ", ".join(unused[:3]) + (", …" if len(unused) > 3 else "")
    parameters = "1 parameter gets" if len(unused) == 1 else f"{len(unused)} parameters get"
    return f"{parameters} no gradient in some backward pass ({named}), so training uses strategy {SEARCHING}"
