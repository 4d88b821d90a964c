"""What a test scored on each example, in the split's own order, kept in the run's folder."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from normlab.data.batch import IGNORE
from normlab.data.splits import Split, Windows
from normlab.folder.example_scores import encode, write_example_scores
from normlab.session.session import Session
from normlab.tasks.task import Task


def keep_example_scores(session: Session, trainer: pl.Trainer, task: Task, batches: Any) -> None:
    """Record the scores of the test that has just ended, by every process together; not if one is not a number.

    Args:
        batches: this process's, which were tested.
    """
    values, places = gathered(trainer, torch.cat(task.scored), batches)
    split = session.data.split("test")
    sizes = _sizes(split)
    if trainer.is_global_zero and bool(values.isfinite().all()):
        record = encode(
            task.scored_as,
            session.data.record["prints"]["test"],
            values.numpy(),
            None if sizes is None else sizes[places].numpy(),
        )
        write_example_scores(session.place.example_scores_file, record)


def _sizes(split: Split) -> Tensor | None:
    """What the score of each example is the mean of: tokens of a window, pixels that count; None: a single value."""
    if isinstance(split, Windows):
        return split.lengths_at(split.in_order())
    return (split.targets != IGNORE).sum((1, 2)).cpu() if split.dense else None


def gathered(trainer: pl.Trainer, own: Tensor, batches: Any) -> tuple[Tensor, Tensor]:
    """The scores of all processes and their places in the split's order, both [examples] on the CPU.

    Args:
        own: of this process's examples, in the order of its batches.
        batches: its loader. With `trainer.batches` only the first of them were tested.
    """
    shares = batches.batch_sampler
    order = shares.sampler.index()
    place = torch.searchsorted(order, torch.cat([share.index for share in shares])[: len(own)]).to(own.device)
    table = torch.zeros(2, len(order), device=own.device)
    table[0, place], table[1, place] = own.float(), 1.0
    table = trainer.strategy.reduce(table, reduce_op="sum").cpu()  # each process has other examples
    places = table[1].nonzero().flatten()
    return table[0, places], places
