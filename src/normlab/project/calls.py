"""How a project calls its network in a real training step: the example with which its norms are found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from normlab.sites.forward import batch_of, copied, one_more


@dataclass
class Calls:
    """The calls of the outermost modules in one step; called with a network of the same build, it repeats them.

    made     path of the module, arguments by position and by name
    batch    examples of the batch
    context  in which they are repeated, such as automatic mixed precision
    """

    made: list[tuple[str, Any, Any]] = field(default_factory=list)
    batch: int | None = None
    context: Callable[[], AbstractContextManager[Any]] = nullcontext

    def one_more(self) -> Calls | None:
        """Those of the same batch with its first example a second time."""
        if self.batch is None:
            return None
        made = [(path, one_more(args, self.batch), one_more(named, self.batch)) for path, args, named in self.made]
        return replace(self, made=made, batch=self.batch + 1)

    def __call__(self, net: nn.Module) -> None:
        """Repeat them, on the network's device."""
        device = next((p.device for p in net.parameters()), torch.device("cpu"))
        with self.context():
            for path, arguments, named in self.made:
                place = net.get_submodule(path)
                arguments, named = move_data_to_device((copied(arguments), copied(named)), device)
                place(*arguments, **named)


class Recorder(pl.Callback):
    """Records the calls of the first training step; of the first validation step if that has none."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._handles: list[Any] = []
        self._depth = 0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Listen."""
        self._listen(trainer, module, batch)

    def on_train_batch_end(self, *_: Any) -> None:
        """One step is enough."""
        self._stop()

    def on_validation_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, *_: Any) -> None:
        """Listen, if training told nothing."""
        self._listen(trainer, module, batch)

    def on_validation_batch_end(self, *_: Any) -> None:
        """One step is enough."""
        self._stop()

    def _listen(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any) -> None:
        if self.calls.made:
            return
        # in DDP a step itself is called as if it were the module's forward
        self._depth = 0 if trainer.strategy.model is module else -1
        self.calls.batch = batch_of(batch)
        for path, child in module.named_modules():
            if isinstance(child, torch.jit.ScriptModule):
                continue  # has no hooks with arguments
            self._handles += [
                child.register_forward_pre_hook(partial(self._enter, path), with_kwargs=True),
                child.register_forward_hook(self._leave, always_call=True),
            ]

    def _enter(self, path: str, module: nn.Module, arguments: Any, named: Any) -> None:
        if self._depth == 0 and not isinstance(module, Metric | MetricCollection):
            self.calls.made.append((path, _kept(arguments), _kept(named)))
        self._depth += 1

    def _leave(self, *_: Any) -> None:
        self._depth -= 1

    def _stop(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


def _kept(value: Any) -> Any:
    """A copy without gradients, on the CPU."""
    return torch.utils._pytree.tree_map(lambda x: x.detach().cpu() if isinstance(x, Tensor) else x, copied(value))
