"""The optimiser and its learning rate schedule."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from normlab.config.schema import OptimConfig
from normlab.tasks.muon import MuonAndAdamW, embeddings


def build_optimiser(model: nn.Module, config: OptimConfig, scaled: bool = False) -> Optimizer:
    """AdamW, SGD, RMSProp or Muon over two groups: weights, with weight decay, and the rest, without.

    Gains, biases and DyT's alpha are vectors or scalars in every norm, as are all biases; whatever has two
    dimensions or more is a weight.

    `scaled`: gradients are scaled against underflow in half precision. Fused optimisers would undo that only after they
    were clipped.
    """
    assert config.lr is not None  # only a Lightning project, which has its own optimiser, may have no rate
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.name == "muon":
        tokens = embeddings(model)
        matrices = [p for p in parameters if p.ndim == 2 and id(p) not in tokens]
        chosen = {id(p) for p in matrices}
        others = [{**group, "params": [p for p in group["params"] if id(p) not in chosen]} for group in groups]
        with_decay = [{"params": matrices, "weight_decay": config.weight_decay}] if matrices else []
        return MuonAndAdamW(with_decay, [group for group in others if group["params"]], config)
    if config.name == "adamw":
        # one fused pass is several times faster than PyTorch's default; capturable: the step's number stays on the GPU
        device = parameters[0].device.type
        fused, capturable = device == "cpu" or (device == "cuda" and not scaled), device == "cuda"
        return AdamW(groups, lr=config.lr, betas=config.betas, fused=fused, capturable=capturable)
    if config.name == "rmsprop":
        return RMSprop(groups, lr=config.lr, alpha=config.alpha, momentum=config.momentum)
    return SGD(groups, lr=config.lr, momentum=config.momentum)


def build_schedule(optimiser: Optimizer, config: OptimConfig, steps: int) -> LambdaLR:
    """The factor on `config.lr` at each of `steps` optimiser steps: linear warm-up, then constant, cosine or steps."""
    return LambdaLR(optimiser, partial(rate_factor, config=config, steps=steps))


def rate_factor(step: int, config: OptimConfig, steps: int) -> float:
    """Factor on the peak learning rate at `step` (from 0) of `steps`."""
    warm = round(config.warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "step":
        return float(config.drop ** sum(step >= round(share * steps) for share in config.milestones))
    done = min(1.0, (step - warm) / max(1, steps - warm))
    return config.final + (1 - config.final) * 0.5 * (1 + math.cos(math.pi * done))
