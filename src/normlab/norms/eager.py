"""Whether plain eager code runs on the CPU, where a kernel or a shape that depends on the data can be used."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_compiling

_TYPES = (torch.float32, torch.float64)
_PLAIN = (Tensor, torch.nn.Parameter)
_transforms = torch._C._functorch.peek_interpreter_stack


def eager(x: Tensor) -> bool:
    """Is x a float32 or float64 tensor on the CPU, which PyTorch neither traces nor transforms (vmap, jvp)?"""
    return (
        not is_compiling()
        and x.is_cpu
        and x.dtype in _TYPES
        and type(x) in _PLAIN
        and _transforms() is None
        and forward_ad._current_level < 0
    )
