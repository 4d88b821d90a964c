"""The time loop on a GPU, and its backward pass."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from normlab.kernels.arguments import GATES, CellNorms, Sequences, Weights, flat, refuse_second_derivative
from normlab.kernels.gpu.cell import backward_step, forward_step


class Compiled(NamedTuple):
    """The constants for which the kernels are compiled."""

    h: str
    c: str
    parts: int
    eps: float


def run(sequences: Sequences, weights: Weights, norms: CellNorms) -> tuple[Tensor, Tensor]:
    """h after each step, [B, T, H], and c after the last: see `recurrence`, whose arguments these are, checked."""
    x, h0, c0, mask = sequences
    units = weights.h.shape[1]
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in flat(sequences, weights, norms))
    with torch.autocast(x.device.type, enabled=False):
        # the inputs' part needs no loop: all steps at once, differentiated by PyTorch
        inputs = _standardise(F.linear(x, weights.x), norms.x.norm, norms.parts, norms.eps)
        gates = weights.bias + inputs if norms.x.gain is None else torch.addcmul(weights.bias, norms.x.gain, inputs)
        state = (x.new_zeros(len(x), units) if given is None else given for given in (h0, c0))
        affine = (
            x.new_ones(GATES * units) if norms.h.gain is None else norms.h.gain,
            x.new_ones(units) if norms.c.gain is None else norms.c.gain,
            x.new_zeros(units) if norms.c.bias is None else norms.c.bias,
        )
        real = x.new_ones(x.shape[:2], dtype=torch.uint8) if mask is None else mask.contiguous().view(torch.uint8)
        compiled = Compiled(norms.h.norm, norms.c.norm, norms.parts, norms.eps)
        h, c = _Loop.apply(compiled, save, real, *(gates, *state, weights.h, *affine))
    return h, c


def _standardise(x: Tensor, norm: str, parts: int, eps: float) -> Tensor:
    """x̂ of [B, T, 4H], over each part of the last axis."""
    if norm == "none":
        return x
    blocks = x.unflatten(-1, (parts, -1))
    shape = blocks.shape[-1:]
    blocks = F.layer_norm(blocks, shape, eps=eps) if norm == "layer" else F.rms_norm(blocks, shape, eps=eps)
    return blocks.flatten(-2)


class _Loop(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        norms: Compiled,
        save: bool,
        real: Tensor,
        gates: Tensor,
        h0: Tensor,
        c0: Tensor,
        weight_h: Tensor,
        gain_h: Tensor,
        gain_c: Tensor,
        bias_c: Tensor,
    ) -> Any:
        examples, steps, channels = gates.shape
        units = weight_h.shape[1]
        gates, affine = gates.contiguous(), [t.contiguous() for t in (gain_h, gain_c, bias_c)]
        h = gates.new_empty(steps + 1, examples, units)
        c = gates.new_empty(steps + 1 if save else 1, examples, units)
        product = gates.new_empty(steps if save else 1, examples, channels)
        h[0], c[0] = h0, c0
        with torch.cuda.device_of(gates):  # where Triton launches
            for t in range(steps):
                torch.mm(h[t], weight_h.t(), out=product[t if save else 0])
                forward_step[(examples,)](
                    *(gates, product, c, h, real, *affine),
                    *(t, examples, steps, units),
                    **constants(norms, units),
                    KEEP=save,
                )
        ctx.save_for_backward(real, gates, product, c, h, weight_h, *affine)
        ctx.norms = norms
        return h[1:].transpose(0, 1), c[-1].clone()

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dc_last: Tensor) -> Any:
        refuse_second_derivative()
        real, gates, product, c, h, weight_h, *affine = ctx.saved_tensors
        steps, examples, channels = product.shape
        units = weight_h.shape[1]
        dy, dc = dy.contiguous(), dc_last.clone(memory_format=torch.contiguous_format)
        dh = torch.zeros_like(dc)
        dgates, dproduct = torch.empty_like(gates), torch.empty_like(product)
        # each example adds up its own gradients in the order of the steps, so the bits are always the same
        sums = [gates.new_zeros(examples, size) for size in (channels, units, units)]
        with torch.autocast(gates.device.type, enabled=False), torch.cuda.device_of(gates):
            for t in reversed(range(steps)):
                backward_step[(examples,)](
                    *(gates, product, c, real, *affine),
                    *(dy, dh, dc, dgates, dproduct, *sums),
                    *(t, examples, steps, units),
                    **constants(ctx.norms, units),
                    AFFINE=any(ctx.needs_input_grad[-3:]),
                )
                dh.addmm_(dproduct[t], weight_h)
            dweight_h = dproduct.flatten(0, 1).t() @ h[:-1].flatten(0, 1)
        return None, None, None, dgates, dh, dc, dweight_h, *(rows.sum(0) for rows in sums)


def constants(norms: Compiled, units: int) -> dict[str, Any]:
    """The compile-time constants for a layer with so many units."""
    width = 1 << (units - 1).bit_length()
    return {
        "NORM_H": norms.h,
        "NORM_C": norms.c,
        "PARTS": norms.parts,
        "EPS": norms.eps,
        "WIDTH": width,
        # 128 units a warp: a thread then has all four gates of its units
        "num_warps": min(16, max(1, width // 128)),
    }
