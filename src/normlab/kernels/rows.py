"""Compiled kernels of norms that PyTorch has no fast kernel of, each the equal of plain tensor code up to rounding.

They compute in float32 and float64 on the CPU, forward and backward, with gain and bias inside; a second derivative is
computed by tensor operations. The bits are the same for the same number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from normlab.kernels.build import load_or_say

Kernel = Literal["compiled", "plain"]


def choose() -> Kernel:
    """The kernel of a norm on this machine. If it can't be compiled, a line on stderr says so once."""
    return "compiled" if load_or_say("norms") else "plain"


def rescale(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, eps: float) -> Tensor:
    """gain · x / √(mean(x²) + eps) + bias, with the mean over each of `parts` blocks of the last axis.

    Args:
        x: [..., C].
        gain, bias: [C], of x's dtype.
        parts: equal blocks of channels.
        eps: added to the mean square.
    """
    return _operation("rescale_rows")(x, gain, bias, parts, eps)


def rescale_images(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, eps: float) -> Tensor:
    """The same for x [B, C, ...]; the mean pools positions too."""
    return _operation("rescale_images")(x, gain, bias, parts, eps)


def standardise(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, eps: float) -> Tensor:
    """gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each of `parts` blocks of the last axis: see `rescale`."""
    return _operation("standardise_rows")(x, gain, bias, parts, eps)


def standardise_positions(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, eps: float) -> Tensor:
    """The same at each position of x [B, C, ...] alone."""
    return _operation("standardise_positions")(x, gain, bias, parts, eps)


class Running(NamedTuple):
    """Running statistics of a batch norm, and what to do with them.

    mean      [C]
    variance  [C], unbiased
    momentum  weight of a batch's statistics, which move the running ones in place; 0: they don't move them; None: a
              batch is normalised by the running statistics, not by its own
    """

    mean: Tensor
    variance: Tensor
    momentum: float | None


def standardise_batch(
    x: Tensor, mask: Tensor, gain: Tensor | None, bias: Tensor | None, running: Running, *, eps: float
) -> Tensor:
    """gain · (x - μ) / √(σ² + eps) + bias in real rows, with μ and σ² of each channel over them; 0 in padded rows.

    Fewer than two real rows are normalised by the running statistics, which they don't move. Padded rows are not read,
    so they may hold anything, and their gradient is 0.

    Args:
        x: [..., C].
        mask: bool [...], true where a row of x is real.
        gain, bias: [C], of x's dtype.
        running: of x's dtype.
        eps: added to the variance.
    """
    mean, variance, momentum = running
    operation = _operation("standardise_batch")
    return operation(x, mask, gain, bias, mean, variance=variance, momentum=momentum, eps=eps)


def tanh(x: Tensor, alpha: Tensor, gain: Tensor | None, bias: Tensor | None, *, channels_first: bool) -> Tensor:
    """gain · tanh(alpha · x) + bias.

    Args:
        x: [..., C], or [B, C, ...] if `channels_first`.
        alpha: one value.
        gain, bias: [C].
        channels_first: of x.
    """
    return _operation("tanh_images" if channels_first else "tanh_rows")(x, alpha, None, gain, bias)


def erf(
    x: Tensor, alpha: Tensor, shift: Tensor | None, gain: Tensor | None, bias: Tensor | None, *, channels_first: bool
) -> Tensor:
    """gain · erf(alpha · x + shift) + bias, with a shift of one value: see `tanh`."""
    return _operation("erf_images" if channels_first else "erf_rows")(x, alpha, shift, gain, bias)


@cache
def _operation(name: str) -> Callable[..., Tensor]:
    """An operation of the library, looked up once: each time, it would cost a tenth of a call with a small x."""
    operation: Callable[..., Tensor] = getattr(torch.ops.normlab, name).default
    return operation
