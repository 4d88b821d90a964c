"""Whether a network can learn from information in other examples of its batch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from normlab.config.measures.dependence import Leakage
from normlab.config.schema import RunConfig
from normlab.data.batch import Batch
from normlab.data.load import Data
from normlab.folder.place import Place
from normlab.session.session import Session
from normlab.session.steps import step
from normlab.session.task import build_task
from normlab.tasks.optimiser import build_optimiser, build_schedule


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train on a task that can only be solved by leakage: the target of each example is its partner's class.

    Each epoch forms new pairs of neighbours in its batches. If examples don't depend on each other, the network can do
    no better than chance. Statistics that a pair shares (norm.nbs=2) contain information about the partner, but only in
    training: with running statistics, the network is back at chance. Contrastive learning has the same shortcut (He et
    al. 2020, arXiv:1911.05722, section 3.3, which shuffles batch norm's batches against it).

    `steps` optimiser steps with the config's optimiser and schedule, then one evaluation on the validation split, in
    random pairs and batches of task.batch_size (an odd or incomplete rest is left out):

        leak/train_mode_accuracy   with batch statistics
        leak/eval_mode_accuracy    with running statistics
        leak/chance                the share of the most frequent class
        leak/train_loss            mean training loss of the last fifth of the steps, nats
        diverged                   whether that loss is not finite; if so, the others are null

    The run's metrics have every step's `train/loss`.
    """
    options = config.measure
    assert isinstance(options, Leakage)
    session = Session(config, place)
    model = session.model().to(session.device).train()
    task = build_task(config, model, session.data)
    torch.manual_seed(session.seed("noise"))
    optimiser = build_optimiser(model, config.optim)
    schedule = build_schedule(optimiser, config.optim, options.steps)
    losses: list[float] = []
    for batch in itertools.islice(session.training_batches(), options.steps):
        losses.append(step(task, optimiser, of_partner(batch)))
        schedule.step()
        session.log({"train/loss": losses[-1]}, len(losses))
    last = torch.tensor(losses[-max(1, options.steps // 5) :]).mean()
    summary: dict[str, Any] = {
        "diverged": not bool(last.isfinite()),
        "steps": options.steps,
        "leak/train_loss": float(last),
        "leak/chance": _chance(session.data),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    for mode in ("eval", "train"):  # training mode updates running statistics
        model.train(mode == "train")
        hits = accuracy(model, _pairs(session))
        summary[f"leak/{mode}_mode_accuracy"] = None if summary["diverged"] else hits
    return session.finish(summary)


def of_partner(batch: Batch) -> Batch:
    """The same batch with the target of each example's partner (0 and 1, 2 and 3, …); an odd one keeps its own."""
    index = torch.arange(len(batch.targets), device=batch.targets.device)
    partner = (index ^ 1).clamp(max=len(index) - 1)
    return replace(batch, targets=batch.targets[partner])


@torch.no_grad()
def accuracy(model: nn.Module, batches: Iterator[Batch]) -> float:
    """Share of the targets that the model predicts."""
    hits = torch.cat([model(batch.inputs, batch.mask).argmax(1) == batch.targets for batch in batches])
    return float(hits.double().mean())


def _pairs(session: Session) -> Iterator[Batch]:
    """The validation split in random pairs, which depend only on the seed."""
    split = session.data.split("validation").to(session.device)
    index: Tensor = split.shuffled(torch.Generator().manual_seed(session.seed("pairs")))
    size = min(session.config.task.batch_size, len(index) // 2 * 2)
    for part in index[: len(index) // size * size].split(size):
        yield of_partner(split.gather(part))


def _chance(data: Data) -> float:
    split = data.split("validation")
    targets = split.gather(split.in_order()).targets
    return int(targets.bincount().max()) / len(targets)
