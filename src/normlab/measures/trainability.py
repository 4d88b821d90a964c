"""How deep a network still learns, and at how many learning rates, from a given size of its initial weights."""

from __future__ import annotations

import copy
import itertools
import math
from statistics import fmean
from typing import Any

import torch

from normlab.config.measures.gradients import Trainability
from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.models.base import Model
from normlab.session.session import Session
from normlab.session.steps import entropy_of_targets, last_loss
from normlab.session.task import build_task


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train networks of rising depth at every rate, until a depth learns at none.

    Each training has `steps` optimiser steps on the same batches, at a constant rate without warm-up; `optim` applies
    except lr, warmup and schedule. It learns if every loss is finite and the mean loss of the last fifth of the steps
    is below share · H, with H the entropy of the training targets in nats: the least loss of a network that ignores
    its input. Before training, every weight matrix but the output layer's is multiplied by `scale`.

    Returns:
        A flat summary. A training's learnt share is 1 - loss / H, or 0 if that is negative or not finite.
        `learnt_at_best` is the mean over depths of the best rate's learnt share, `learnt_at_all` that over all depths
        and rates; `depth` is the deepest network that learns at one of the rates, as do all shallower ones that
        were tried, or 1 if none does. Depths beyond the first that learns at no rate are not tried, and count as
        0. `entropy` is H. The run's metrics have one row per training: `trial/depth`, `trial/lr` and `trial/loss`,
        null if not finite.
    """
    options = config.measure
    assert isinstance(options, Trainability)
    session = Session(config, place)
    entropy = entropy_of_targets(session.data, config.task.eval_batch_size)
    deepest, learnt = 1, [[0.0] * len(options.rates) for _ in options.depths]
    for row, depth in enumerate(options.depths):
        untrained = _untrained(config, place, depth)
        losses = [_loss(session, untrained, rate) for rate in options.rates]
        for column, (rate, loss) in enumerate(zip(options.rates, losses, strict=True)):
            number = row * len(options.rates) + column
            session.log({"trial/depth": depth, "trial/lr": rate, "trial/loss": loss}, number)
        learnt[row] = [learnt_share(loss, entropy) for loss in losses]
        if max(learnt[row]) <= 1 - options.share:
            break
        deepest = depth
    summary = {
        "learnt_at_best": fmean(max(shares) for shares in learnt),
        "learnt_at_all": fmean(share for shares in learnt for share in shares),
        "depth": deepest,
        "entropy": entropy,
    }
    return session.finish(summary)


def learnt_share(loss: float, entropy: float) -> float:
    """The share of the targets' entropy that training removes; 0 if the loss is above it or not finite."""
    return max(0.0, 1 - loss / entropy) if math.isfinite(loss) else 0.0


def scale_weights(model: Model, factor: float) -> None:
    """Multiply every matrix and convolution kernel but the output layer's."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and not name.startswith("head."):
                value.mul_(factor)


def _untrained(config: RunConfig, place: Place, depth: int) -> Model:
    deep = config.model_copy(update={"model": {**config.model, "depth": depth}})
    model = Session(deep, place).model()
    assert isinstance(config.measure, Trainability)
    scale_weights(model, config.measure.scale)
    return model


def _loss(session: Session, untrained: Model, rate: float) -> float:
    config = session.config
    assert isinstance(config.measure, Trainability)
    torch.manual_seed(session.seed("noise"))
    task = build_task(config, copy.deepcopy(untrained), session.data).to(session.device)
    task.optim = config.optim.model_copy(update={"lr": rate})
    return last_loss(task, itertools.islice(session.training_batches(), config.measure.steps))
