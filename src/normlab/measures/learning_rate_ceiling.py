"""The largest learning rate at which a network still learns."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import torch

from normlab.config.measures.gradients import LearningRateCeiling
from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.session.session import Session
from normlab.session.steps import entropy_of_targets, last_loss
from normlab.session.task import build_task


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Try learning rates lowest · factor^k, k = rungs - 1 … 0, from the highest down, until one works.

    Each rung trains the same untrained network for `steps` optimiser steps on the same batches, at a constant rate
    without warm-up; `optim` applies except lr, warmup and schedule. A rate works if every loss is finite and the mean
    loss of the last fifth of the steps is below share · H, with H the entropy of the training targets in nats: the
    least loss of a network that ignores its input. A falling loss alone is not enough: a deep network's first loss can
    be above H, and that of a network whose units have all died falls to H.

    The claim about batch norm: it allows larger learning rates (Bjorck et al. 2018, arXiv:1806.02375).

    Returns:
        A flat summary. `ceiling` is the rate, `log2_ceiling` its logarithm, null if no rung works; `rung` the number k;
        `tried` how many rungs; `ceiling_censored`: the highest one works, so the true ceiling is higher or doesn't
        exist; `ceiling_loss` the last fifth's mean loss there; `entropy` H. The run's metrics have one row per rung k:
        `rung/lr` and `rung/loss`, null if not finite.
    """
    options = config.measure
    assert isinstance(options, LearningRateCeiling)
    session = Session(config, place)
    untrained = build_task(config, session.model(), session.data).to(session.device)
    entropy = entropy_of_targets(session.data, config.task.eval_batch_size)

    def loss_at(rung: int) -> float:
        rate = options.lowest * options.factor**rung
        torch.manual_seed(session.seed("noise"))
        task = copy.deepcopy(untrained)
        task.optim = config.optim.model_copy(update={"lr": rate})
        loss = last_loss(task, itertools.islice(session.training_batches(), options.steps))
        session.log({"rung/lr": rate, "rung/loss": loss}, rung)
        return loss

    found = highest(loss_at, options.rungs, options.share * entropy)
    rate = None if found is None else options.lowest * options.factor ** found[0]
    summary = {
        "ceiling": rate,
        "log2_ceiling": None if rate is None else math.log2(rate),
        "ceiling_loss": None if found is None else found[1],
        "ceiling_censored": found is not None and found[0] == options.rungs - 1,
        "rung": None if found is None else found[0],
        "tried": options.rungs - (0 if found is None else found[0]),
        "entropy": entropy,
        "parameters": sum(p.numel() for p in untrained.parameters()),
    }
    return session.finish(summary)


def highest(loss_at: Callable[[int], float], rungs: int, bound: float) -> tuple[int, float] | None:
    """The highest rung whose loss is below the bound, and that loss; NaN is never below it."""
    for rung in reversed(range(rungs)):
        loss = loss_at(rung)
        if loss < bound:
            return rung, loss
    return None
