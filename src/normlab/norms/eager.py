"""Whether plain eager code runs on the CPU, where a kernel or a shape that depends on the data can be used."""

from __future__ import annotations

import torch
from torch import Tensor

_TYPES = (torch.float32, torch.float64)


def eager(x: Tensor) -> bool:
    """Is x a float32 or float64 tensor on the CPU, which PyTorch neither traces nor transforms (vmap, jvp)?"""
    return (
        not torch.compiler.is_compiling()
        and x.dtype in _TYPES
        and x.device.type == "cpu"
        and type(x) in (Tensor, torch.nn.Parameter)
        and torch._C._functorch.peek_interpreter_stack() is None  # torch.func's transforms
        and torch.autograd.forward_ad._current_level < 0
    )
