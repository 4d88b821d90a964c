"""Compiled kernels of norms that look at one example at a time, each the equal of plain tensor code up to rounding.

They compute in float32 and float64 on the CPU, forward and backward, with gain and bias inside; a second derivative is
computed by tensor operations. The bits are the same for the same number of threads.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from normlab.kernels.build import load_or_say

Kernel = Literal["compiled", "plain"]


def choose() -> Kernel:
    """The kernel of a norm on this machine. If it can't be compiled, a line on stderr says so once."""
    return "compiled" if load_or_say("norms") else "plain"


def serves(x: Tensor) -> bool:
    """Can the compiled kernel be used for inputs like x now? Not on a GPU, while PyTorch traces, or under vmap."""
    return (
        not torch.compiler.is_compiling()
        and x.dtype in _TYPES
        and x.device.type == "cpu"
        and type(x) in (Tensor, torch.nn.Parameter)
        and torch._C._functorch.peek_interpreter_stack() is None  # torch.func's transforms of tensors
        and torch.autograd.forward_ad._current_level < 0
    )


_TYPES = (torch.float32, torch.float64)


def rescale(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, channels_first: bool, eps: float) -> Tensor:
    """gain · x / √(mean(x²) + eps) + bias, with the mean over all values of one of `parts` blocks of an example.

    Args:
        x: [..., C], or [B, C, ...] with `channels_first`: then the mean pools positions too.
        gain, bias: [C], of x's dtype.
        parts: equal blocks of channels.
        channels_first: whether channels are the axis after the first.
        eps: added to the mean square.
    """
    options = {"channels_first": channels_first, "centred": False, "eps": eps}
    y: Tensor = torch.ops.normlab.standardise.default(x, gain, bias, parts, **options)
    return y


def standardise(x: Tensor, gain: Tensor | None, bias: Tensor | None, parts: int, eps: float) -> Tensor:
    """gain · (x - μ) / √(σ² + eps) + bias, with μ and σ² of each of `parts` blocks of the last axis: see `rescale`."""
    options = {"channels_first": False, "centred": True, "eps": eps}
    y: Tensor = torch.ops.normlab.standardise.default(x, gain, bias, parts, **options)
    return y


def squash(
    x: Tensor,
    function: Literal["tanh", "erf"],
    inside: tuple[Tensor, Tensor | None],
    outside: tuple[Tensor | None, Tensor | None],
    channels_first: bool,
) -> Tensor:
    """gain · f(alpha · x + shift) + bias.

    Args:
        x: [..., C], or [B, C, ...] with `channels_first`.
        function: f.
        inside: alpha and shift, of one value each.
        outside: gain and bias, [C].
        channels_first: whether channels are the axis after the first.
    """
    options = {"channels_first": channels_first, "error_function": function == "erf"}
    y: Tensor = torch.ops.normlab.squash.default(x, *inside, *outside, **options)
    return y
