"""Compiled kernels of norms that look at one example at a time, each the equal of plain tensor code up to rounding.

They compute in float32 and float64 on the CPU, forward and backward, with gain and bias inside; a second derivative is
computed by tensor operations. The bits are the same for the same number of threads.
"""

from __future__ import annotations

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
    y: Tensor = torch.ops.normlab.rescale_rows.default(x, gain, bias, parts, eps)
    return y


def rescale_images(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, eps: float) -> Tensor:
    """The same for x [B, C, ...]; the mean pools positions too."""
    y: Tensor = torch.ops.normlab.rescale_images.default(x, gain, bias, parts, eps)
    return y


def standardise(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, eps: float) -> Tensor:
    """gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each of `parts` blocks of the last axis: see `rescale`."""
    y: Tensor = torch.ops.normlab.standardise_rows.default(x, gain, bias, parts, eps)
    return y


class Outside(NamedTuple):
    """What is applied to the values of a function.

    gain            [C]; None: 1
    bias            [C]; None: 0
    channels_first  whether x is [B, C, ...], not [..., C]
    """

    gain: Tensor | None
    bias: Tensor | None
    channels_first: bool


def tanh(x: Tensor, alpha: Tensor, outside: Outside) -> Tensor:
    """gain · tanh(alpha · x) + bias, with alpha of one value."""
    operations = torch.ops.normlab
    function = operations.tanh_images if outside.channels_first else operations.tanh_rows
    y: Tensor = function.default(x, alpha, None, outside.gain, outside.bias)
    return y


def erf(x: Tensor, alpha: Tensor, shift: Tensor | None, outside: Outside) -> Tensor:
    """gain · erf(alpha · x + shift) + bias, with alpha and shift of one value each."""
    operations = torch.ops.normlab
    function = operations.erf_images if outside.channels_first else operations.erf_rows
    y: Tensor = function.default(x, alpha, shift, outside.gain, outside.bias)
    return y
