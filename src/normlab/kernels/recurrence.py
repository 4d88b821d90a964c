"""The time loop of an LSTM with norms inside the cell, as one operation with its own backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor

from normlab.config.schema import InputError
from normlab.kernels import native
from normlab.kernels.arguments import (
    ARGUMENTS,
    DEVICES,
    CellNorm,
    CellNorms,
    OfSites,
    Sequences,
    States,
    StepStatistics,
    Weights,
    check,
    flat,
    refuse_second_derivative,
)
from normlab.kernels.native import LoopOptions


def recurrence(sequences: Sequences, weights: Weights, norms: CellNorms = CellNorms()) -> States:  # noqa: B008
    """All steps of one direction of one layer, with norms N inside the cell:

        (f, i, o, g) = N_h(W_h h) + N_x(W_x x) + b
        c ← σ(f) c + σ(i) tanh(g)
        h ← σ(o) tanh(N_c(c))

    Padded steps leave h and c as they are. Equal to `normlab.models.lstm.LSTMCell` up to rounding; the same bits for
    the same number of threads. Under autocast x is raised to float32. Differentiable once.

    Runs C++ compiled for this CPU or, on a GPU, Triton (but not `batch`, or gains and biases per step). All tensors
    must have one dtype and be on one device.

    Raises:
        InputError: shapes, dtypes or devices don't fit; on a GPU, also if it doesn't support the norm, or without
        Triton. BuildError: the C++ can't be built.
    """
    x, h, c, mask = sequences
    if x.device.type in DEVICES and torch.is_autocast_enabled(x.device.type):
        sequences = Sequences(_raised(x), _raised(h), _raised(c), mask)
    check(sequences, weights, norms)
    if x.device.type == "cuda":
        return _on_gpu(sequences, weights, norms)
    return _on_cpu(sequences, weights, norms)


def _on_gpu(sequences: Sequences, weights: Weights, norms: CellNorms) -> States:
    if norms.pool is not None or weights.bias.ndim == 2:
        raise InputError("the fused LSTM supports batch norm only on CPUs; use model.kernel=plain on a GPU")
    try:
        from normlab.kernels.gpu import loop  # imported here, because most machines have no Triton and don't need it
    except ModuleNotFoundError as error:
        raise InputError(
            f"the fused LSTM needs Triton on a GPU ({error}): pip install triton, or use model.kernel=plain"
        ) from error
    return States(*loop.run(sequences, weights, norms), (None, None, None))


def _on_cpu(sequences: Sequences, weights: Weights, norms: CellNorms) -> States:
    arguments, pool = flat(sequences, weights, norms), norms.pool
    options = _options(sequences.x, weights, norms)
    running = None
    if pool is not None and _may_run_short(options, sequences.mask):
        rows = [_rows(found, blocks, options) for found, blocks in zip(pool.running, (4, 4, 1), strict=True)]
        running = torch.cat(rows).to(sequences.x)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in arguments)
    h, c, statistics = _Recurrence.apply(options, save, sequences.mask, running, *arguments)
    return States(h, c, (None, None, None) if pool is None else _statistics(statistics, norms, options))


@overload
def _raised(x: Tensor) -> Tensor: ...
@overload
def _raised(x: Tensor | None) -> Tensor | None: ...
def _raised(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.to(torch.promote_types(x.dtype, torch.float32))


def _may_run_short(options: LoopOptions, mask: Tensor | None) -> bool:
    """Can a set have fewer than two real examples?"""
    return mask is not None or options.chunk == 1 or options.examples % options.chunk == 1


def _rows(statistics: StepStatistics | None, blocks: int, options: LoopOptions) -> Tensor:
    """[2 · T · C] in the layout of C++; an absent site is padded."""
    if statistics is None:
        return torch.zeros(2 * options.steps * blocks * options.units)
    return torch.cat([statistics.mean.flatten(), statistics.var.flatten()])


def _statistics(statistics: Tensor, norms: CellNorms, options: LoopOptions) -> OfSites:
    """The sites' statistics from C++'s memory: [T, K, 2, units / lanes, gates, lanes] each."""
    lanes = native.lanes(statistics.dtype)
    vectors = -(-options.units // lanes)
    chunks = -(-options.examples // options.chunk)
    rows = options.steps * chunks * 2 * vectors * lanes

    def read(site: CellNorm, memory: Tensor, gates: int) -> StepStatistics | None:
        if site.norm != "batch":
            return None
        both = memory.view(options.steps, chunks, 2, vectors, gates, lanes).permute(2, 1, 0, 4, 3, 5)
        channels = both.flatten(-2)[..., : options.units].flatten(-2)
        return StepStatistics(channels[0], channels[1])

    x, h, c = statistics.split([4 * rows, 4 * rows, rows])
    return read(norms.x, x, 4), read(norms.h, h, 4), read(norms.c, c, 1)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        options: LoopOptions,
        save: bool,
        mask: Tensor | None,
        running: Tensor | None,
        *arguments: Tensor | None,
    ) -> Any:
        tensors = [None if t is None else t.contiguous() for t in arguments]
        x = tensors[0]
        assert x is not None
        buffers = {
            "mask": None if mask is None else mask.contiguous().view(torch.uint8),
            "y": x.new_empty(options.examples, options.steps, options.units),
            "c_last": x.new_empty(options.examples, options.units),
            "saved": x.new_empty(native.saved_size(options, x.dtype)) if save else None,
            "running": running,
            "statistics": x.new_empty(native.statistics_size(options, x.dtype)),
        }
        native.forward(options, _named(tensors, **buffers), x.dtype)
        ctx.save_for_backward(*buffers.values(), *tensors)
        ctx.mark_non_differentiable(buffers["statistics"])
        ctx.options = options
        return buffers["y"], buffers["c_last"], buffers["statistics"]

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dc_last: Tensor, _: Tensor) -> Any:
        refuse_second_derivative()
        number = len(native.BUFFERS)
        buffers = dict(zip(native.BUFFERS, ctx.saved_tensors[:number], strict=True))
        tensors = ctx.saved_tensors[number:]
        gradients = [None if t is None else torch.empty_like(t) for t in tensors]
        if not ctx.needs_input_grad[4]:
            gradients[0] = None  # that of x has a price
        native.backward(
            ctx.options,
            _named(tensors, **buffers),
            _named(gradients, dy=dy.contiguous(), dc_last=dc_last.contiguous()),
            dy.dtype,
        )
        return None, None, None, None, *gradients


def _named(arguments: Sequence[Tensor | None], **others: Tensor | None) -> dict[str, Tensor | None]:
    return {**dict(zip(ARGUMENTS, arguments, strict=True)), **others}


def _options(x: Tensor, weights: Weights, norms: CellNorms) -> LoopOptions:
    batch, steps, features = x.shape
    numbers = [native.NORMS.index(site.norm) for site in norms.sites]
    pool = norms.pool
    return LoopOptions(
        examples=batch,
        steps=steps,
        inputs=features,
        units=weights.h.shape[1],
        parts=norms.parts,
        chunk=batch if pool is None else min(batch, pool.examples),
        threads=torch.get_num_threads() if pool is not None else min(batch, torch.get_num_threads()),
        norm_x=numbers[0],
        norm_h=numbers[1],
        norm_c=numbers[2],
        per_step=weights.bias.ndim == 2,
        keep_x=features > KEEP_FROM,
        eps=norms.eps,
    )


# W_x x is saved for the backward pass if x has more features than this; computing it again costs less before
KEEP_FROM = 32
