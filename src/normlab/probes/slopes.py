"""What the measures of gradients in untrained networks share: their inputs, and a growth as the slope of a line."""

from __future__ import annotations

import math
from statistics import linear_regression

import torch
from torch import Tensor

from normlab.data.batch import Batch


def gaussian(shape: tuple[int, ...], seed: int) -> Tensor:
    """N(0, 1) in every entry, float64, the same for a seed on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sequences_of_equal_length(batch: Batch) -> Tensor:
    """Inputs [B, T, …], cut to the shortest sequence; floats as float64."""
    inputs = batch.inputs if batch.mask is None else batch.inputs[:, : int(batch.mask.sum(1).min())]
    return inputs.double() if inputs.is_floating_point() else inputs


def inner(count: int, skip: float) -> range:
    """Which of `count` layers or steps (from 1) are fitted: without the share `skip` at each end, but at least two."""
    left_out = min(int(skip * count), (count - 2) // 2)
    return range(1 + left_out, count - left_out + 1)


def growth(logs: list[float], fitted: range) -> float | None:
    """10 to the slope of a least-squares line; None if a value is not finite."""
    values = [logs[i - 1] for i in fitted]
    if not all(map(math.isfinite, values)):
        return None
    return float(10 ** linear_regression(fitted, values).slope)


def steadiness(growth: float | None) -> float | None:
    """min(growth, 1 / growth): 1 if gradients neither vanish nor explode, and less the faster they do either."""
    return None if growth is None else min(growth, 1 / growth)
