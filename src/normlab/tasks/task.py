"""The base of all tasks: the globally averaged loss, the optimiser, metrics reduced once per epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer

from normlab.config.schema import OptimConfig, Sizes
from normlab.data.batch import Batch
from normlab.models.parts import in_parts
from normlab.norms.base import Norm
from normlab.tasks.optimiser import build_optimiser, build_schedule


class Task(pl.LightningModule, ABC):
    """A model with its loss. A subclass defines the loss of a batch and the metrics of a split.

    Args:
        model: `model(inputs, mask) -> logits`
        sizes: of the data
        optim: the optimiser's config
        record: plain values that a checkpoint stores to rebuild its model
    """

    metric: ClassVar[str]  # chooses the best checkpoint, as in `validation/<metric>`
    direction: ClassVar[Literal["max", "min"]]
    scored_as: ClassVar[Literal["accuracy", "loss"]]  # the metric that is the mean of what `score` gives

    def __init__(
        self,
        model: nn.Module,
        sizes: Sizes,
        optim: OptimConfig,
        record: dict[str, Any],
    ) -> None:
        super().__init__()
        self.model = model
        self.sizes = sizes
        self.optim = optim
        self.record = record
        self.diverged = False
        self.confusion: Tensor | None = None  # counts [actual class, predicted class] of the last evaluation
        self.tested_as = "test"  # prefix of the logged test metrics
        self.scored: list[Tensor] = []  # score of each of this process's examples in the last test, by batch
        self._compiled: tuple[Callable[..., Tensor]] | None = None

    def run_compiled(self) -> None:
        """Let training and evaluation call the compiled model; probes still call the model itself."""
        # in a tuple, so that it isn't a submodule: a compiled model would repeat every parameter under another name
        self._compiled = (torch.compile(self.model),)

    def logits(self, batch: Batch) -> Tensor:
        """The output of the model, compiled or not, for a batch."""
        (model,) = self._compiled or (self.model,)
        logits: Tensor = model(batch.inputs, batch.mask)
        return logits

    @abstractmethod
    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss summed over the valid targets of this process's share of the batch: a scalar."""

    @abstractmethod
    def collect(self, logits: Tensor, batch: Batch, loss: Tensor) -> None:
        """Keep what `metrics` needs from an evaluation batch, as tensors on the device."""

    @abstractmethod
    def metrics(self, split: str) -> dict[str, Tensor]:
        """The metrics of everything collected, over all processes; clears it."""

    @abstractmethod
    def score(self, logits: Tensor, batch: Batch) -> Tensor:
        """The score of each example [B], on the device: right or wrong, or its mean loss."""

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """Mean loss over the valid targets of the global batch, and what the model's norms add to it.

        DDP averages gradients over processes, so a share's loss is scaled up by their number.
        """
        return self.objective(batch, self.trainer.world_size)[0]

    def objective(self, batch: Batch, processes: int = 1) -> tuple[Tensor, Tensor]:
        """What a step of training reduces, with what norms add to the loss, and the mean loss alone."""
        adding = [norm for norm in self.model.modules() if isinstance(norm, Norm) and norm.in_loss]
        for norm in adding:
            norm.terms = []
        try:
            loss = self.losses(self.logits(batch), batch) * (processes / batch.total)
            terms = [term for norm in adding for term in norm.terms or ()]
        finally:
            for norm in adding:
                norm.terms = None
        return (loss + torch.stack(terms).sum() if terms else loss), loss

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch to the device, unless it was gathered there."""
        return batch if batch.inputs.device == device else batch.to(device)

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Collect a batch of the validation split."""
        self._evaluate(batch)

    def on_test_epoch_start(self) -> None:
        """Forget the scores of an earlier test."""
        self.scored.clear()

    def test_step(self, batch: Batch, _index: int) -> None:
        """Collect a batch of the test split, and what it scores example by example."""
        self.scored.append(self.score(self._evaluate(batch), batch))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._log_metrics("validation", "validation")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._log_metrics("test", self.tested_as)

    def _evaluate(self, batch: Batch) -> Tensor:
        logits = self.logits(batch) if self._compiled else in_parts(self.model, batch.inputs, batch.mask)
        self.collect(logits, batch, self.losses(logits, batch))
        return logits

    def _log_metrics(self, split: str, name: str) -> None:
        # the metrics are already reduced over processes; without our own step, Lightning's would be one too low
        values = {f"{name}/{metric}": value for metric, value in self.metrics(split).items()}
        self.log_dict({**values, "step": float(self.global_step)})

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule for the steps that the trainer will do."""
        scaled = self.trainer.precision == "16-mixed"
        optimiser = build_optimiser(self.model, self.optim, scaled)
        schedule = build_schedule(optimiser, self.optim, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        """Clip the norm of all gradients together; Lightning's own clipping refuses fused optimisers."""
        if self.optim.clip is not None:
            clip_grad_norm_(self.model.parameters(), self.optim.clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint describes itself: it contains config and sizes as plain values."""
        checkpoint["normlab"] = self.record


def masked_sum(values: Tensor, mask: Tensor | None) -> Tensor:
    """Sum of `values` where `mask` is true (everywhere if None): a float32 scalar."""
    values = values.float()
    return values.sum() if mask is None else torch.where(mask, values, 0.0).sum()
