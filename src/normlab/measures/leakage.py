"""Whether a network can tell what only another example of its batch shows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from normlab.config.measures.dependence import Leakage
from normlab.config.schema import RunConfig
from normlab.config.seeds import derive
from normlab.data.batch import Batch
from normlab.data.load import Data
from normlab.folder.place import Place
from normlab.mirror.loggers import build_loggers, finish
from normlab.models.build import build_model
from normlab.session.session import build_task, prepare
from normlab.session.steps import device_of, step, training_batches
from normlab.tasks.optimiser import build_optimiser, build_schedule


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train on a task that can only be solved by cheating: each example is to be given its partner's class.

    A batch is cut into pairs of neighbours, anew in each epoch. The network reads every example alone, so one whose
    examples don't depend on each other can do no better than chance. Statistics that a pair shares (norm.nbs=2) tell
    each what the other is, and so leak in training what no evaluation has: with running statistics the network is
    back at chance. Contrastive learning met this as a shortcut (He et al. 2020, arXiv:1911.05722, section 3.3, which
    shuffles batch norm's batches against it).

    `steps` optimiser steps with the config's optimiser and schedule, then one look at all of validation, in random
    pairs and batches of task.batch_size (an odd or incomplete rest is left out):

        leak/train_mode_accuracy   with batch statistics
        leak/eval_mode_accuracy    with running statistics
        leak/chance                the share of the most frequent class
        leak/train_loss            mean training loss of the last fifth of the steps, nats
        diverged                   that loss is not finite; the others are null then

    The run's metrics hold every step's `train/loss`.
    """
    options = config.measure
    assert isinstance(options, Leakage)
    data = prepare(config)
    torch.manual_seed(derive(config.seed, "init"))
    model = build_model(config.norm, config.model, data.sizes).to(device_of(config)).train()
    task = build_task(config, model, data)
    torch.manual_seed(derive(config.seed, "noise"))
    optimiser = build_optimiser(model, config.optim)
    schedule = build_schedule(optimiser, config.optim, options.steps)
    loggers = build_loggers(config, place)
    losses: list[float] = []
    for batch in itertools.islice(training_batches(config, data), options.steps):
        losses.append(step(task, optimiser, of_partner(batch)))
        schedule.step()
        for logger in loggers:
            logger.log_metrics({"train/loss": losses[-1]}, step=len(losses))
    for logger in loggers:
        logger.finalize("success")
    last = torch.tensor(losses[-max(1, options.steps // 5) :]).mean()
    summary: dict[str, Any] = {
        "diverged": not bool(last.isfinite()),
        "steps": options.steps,
        "leak/train_loss": float(last) if last.isfinite() else None,
        "leak/chance": _chance(data),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    for mode in ("eval", "train"):  # in training mode running statistics move
        model.train(mode == "train")
        hits = accuracy(model, _pairs(config, data))
        summary[f"leak/{mode}_mode_accuracy"] = None if summary["diverged"] else hits
    finish(loggers, summary)
    return summary


def of_partner(batch: Batch) -> Batch:
    """The same batch with each example's target that of its partner: 0 and 1, 2 and 3, …; of an odd one its own."""
    index = torch.arange(len(batch.targets), device=batch.targets.device)
    partner = (index ^ 1).clamp(max=len(index) - 1)
    return replace(batch, targets=batch.targets[partner])


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterator[Batch]) -> float:
    """Share of the targets that the model names."""
    hits = torch.cat([model(batch.inputs, batch.mask).argmax(1) == batch.targets for batch in batches])
    return float(hits.double().mean())


def _pairs(config: RunConfig, data: Data) -> Iterator[Batch]:
    """Validation in random pairs, always the same for a seed."""
    split = data.split("validation").to(device_of(config))
    index: Tensor = split.shuffled(torch.Generator().manual_seed(derive(config.seed, "pairs")))
    size = min(config.task.batch_size, len(index) // 2 * 2)
    for part in index[: len(index) // size * size].split(size):
        yield of_partner(split.gather(part))


def _chance(data: Data) -> float:
    split = data.split("validation")
    targets = split.gather(split.in_order()).targets
    return int(targets.bincount().max()) / len(targets)
