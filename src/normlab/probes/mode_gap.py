"""How much worse a network is in evaluation mode than in training mode."""

from __future__ import annotations

from collections.abc import Iterable

import pytorch_lightning as pl
import torch

from normlab.data.batch import Batch
from normlab.norms.base import Norm
from normlab.probes.undisturbed import undisturbed
from normlab.tasks.task import Task


def mode_gap(trainer: pl.Trainer, task: Task, batches: Iterable[Batch]) -> dict[str, float]:
    """Loss and metric of the same training batches, with the norms in training mode and in eval mode.

        gap/train_<metric>  over all the batches, each normalised with its own statistics, as in training
        gap/eval_<metric>   with running statistics, as in evaluation
        gap/<metric>        train - eval: 0 for a norm that couples no examples

    for the task's metric and the loss. Batches of few classes make it large for batch norm: Ioffe 2017, Batch
    Renormalization, arXiv:1702.03275. Unlike the gap between a training loss and a validation loss, both values are of
    the same network on the same examples. Dropout and state noise are off in both modes, and no running statistic
    changes.

    Args:
        trainer: whose precision and device are used.
        task: with the weights to measure.
        batches: of the training split, as training composes them.
    """
    batches = list(batches)
    task.to(trainer.strategy.root_device)  # Lightning moves it to the CPU after training
    values = {mode: _metrics(trainer, task, batches, mode == "train") for mode in ("train", "eval")}
    found: dict[str, float] = {}
    for name in (task.metric, "loss"):
        train, evaluated = values["train"][name], values["eval"][name]
        found |= {f"gap/{name}": train - evaluated, f"gap/train_{name}": train, f"gap/eval_{name}": evaluated}
    return found


def _metrics(trainer: pl.Trainer, task: Task, batches: list[Batch], train: bool) -> dict[str, float]:
    with undisturbed(task.model, seed=0), torch.no_grad():
        task.model.eval()
        for norm in (module for module in task.model.modules() if isinstance(module, Norm)):
            norm.train(train)
        for batch in batches:
            batch = trainer.precision_plugin.convert_input(batch.to(task.device))
            with trainer.precision_plugin.forward_context():
                logits = task.model(batch.inputs, batch.mask)
            task.collect(logits, batch, task.losses(logits, batch))
        return {name: float(value) for name, value in task.metrics("train").items()}
