"""Real rows taken out of padding, and put back. Indices are unique, which PyTorch's own gradients don't rely on."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function


def gather(x: Tensor, rows: Tensor) -> Tensor:
    """x [M, C] at `rows` [N], which are unique."""
    y: Tensor = _Gather.apply(x, rows)
    return y


def scatter(y: Tensor, rows: Tensor, size: int) -> Tensor:
    """[size, C]: y [N, C] at `rows` [N], which are unique, and 0 elsewhere."""
    x: Tensor = _Scatter.apply(y, rows, size)
    return x


class _Gather(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.size = len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (rows,) = ctx.saved_tensors
        return _Scatter.apply(dy, rows, ctx.size), None


class _Scatter(Function):
    @staticmethod
    def forward(ctx: Any, y: Tensor, rows: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(rows)
        return y.new_zeros(size, y.shape[1]).index_copy_(0, rows, y)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> Any:
        (rows,) = ctx.saved_tensors
        return _Gather.apply(dx, rows), None, None
