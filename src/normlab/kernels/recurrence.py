"""The time loop of an LSTM with norms inside the cell, as one operation with its own backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import torch
from torch import Tensor

from normlab.config.schema import InputError
from normlab.kernels import native
from normlab.kernels.arguments import ARGUMENTS, DEVICES, Moments, Pool, Result, Site, check, refuse_second_derivative
from normlab.kernels.native import Problem


def recurrence(
    x: Tensor,
    weight_x: Tensor,
    weight_h: Tensor,
    bias: Tensor,
    sites: tuple[Site, Site, Site] = (Site(), Site(), Site()),
    state: tuple[Tensor | None, Tensor | None] = (None, None),
    mask: Tensor | None = None,
    *,
    parts: int = 1,
    eps: float = 1e-5,
    pool: Pool | None = None,
) -> Result:
    """All steps of one direction of one layer, with norms N inside the cell:

        (f, i, o, g) = N_h(W_h h) + N_x(W_x x) + b
        c ← σ(f) c + σ(i) tanh(g)
        h ← σ(o) tanh(N_c(c))

    Padded steps leave h and c as they are. Equal to `normlab.models.lstm.Cell` up to rounding; the same bits for
    the same number of threads. Under autocast x is raised to float32. Differentiable once.

    On CPUs C++, compiled for this one; on GPUs Triton, for all but `batch` and rows for each step.

    Args:
        x: float32 or float64 [B, T, I], on a CPU or GPU like everything else.
        weight_x: [4H, I], gates in the order forget, input, output, candidate.
        weight_h: [4H, H].
        bias: [4H], or [T, 4H] where each step has its own.
        sites: N_x and N_h over 4H channels, N_c over H.
        state: h and c before the first step, [B, H]; None: 0.
        mask: bool [B, T], true where real.
        parts: 1, or 4 for `rms` and `layer` over each gate's H alone.
        eps: added to the variance or mean square.
        pool: for `batch`, which is all sites' norm or none's.

    Raises:
        InputError: shapes, dtypes or devices that don't fit; on a GPU also what it doesn't do, or no Triton.
        BuildError: the C++ can't be built.
    """
    if x.device.type in DEVICES and torch.is_autocast_enabled(x.device.type):
        x, state = _raised(x), (_raised(state[0]), _raised(state[1]))
    arguments = (x, *state, weight_x, weight_h, bias, *(site.gain for site in sites), sites[2].bias)
    check(arguments, sites, mask, parts, pool)
    if x.device.type == "cuda":
        return _on_gpu(arguments, sites, mask, parts, eps, pool)
    return _on_cpu(arguments, sites, mask, parts, eps, pool)


def _on_gpu(
    arguments: tuple[Tensor | None, ...],
    sites: tuple[Site, Site, Site],
    mask: Tensor | None,
    parts: int,
    eps: float,
    pool: Pool | None,
) -> Result:
    bias = arguments[ARGUMENTS.index("bias")]
    assert bias is not None
    if pool is not None or bias.ndim == 2:
        raise InputError("the fused LSTM has batch norm on CPUs only; model.kernel=plain works on a GPU")
    try:
        from normlab.kernels.gpu import loop  # here, because most machines have no Triton and need none
    except ModuleNotFoundError as error:
        raise InputError(
            f"the fused LSTM needs Triton on a GPU ({error}): pip install triton, or model.kernel=plain"
        ) from error
    return Result(*loop.run(arguments, sites, mask, parts, eps), (None, None, None))


def _on_cpu(
    arguments: tuple[Tensor | None, ...],
    sites: tuple[Site, Site, Site],
    mask: Tensor | None,
    parts: int,
    eps: float,
    pool: Pool | None,
) -> Result:
    x, _, _, _, weight_h, bias, *_ = arguments
    assert x is not None
    assert weight_h is not None
    assert bias is not None
    problem = _problem(x, weight_h, bias, sites, parts, eps, pool)
    running = None
    if pool is not None and _may_run_short(problem, mask):
        running = torch.cat([_flat(m, site, problem) for m, site in zip(pool.running, (4, 4, 1), strict=True)]).to(x)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in arguments)
    h, c, statistics = _Recurrence.apply(problem, save, mask, running, *arguments)
    moments = (None, None, None) if pool is None else _moments(statistics, sites, problem)
    return Result(h, c, moments)


@overload
def _raised(x: Tensor) -> Tensor: ...
@overload
def _raised(x: Tensor | None) -> Tensor | None: ...
def _raised(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.to(torch.promote_types(x.dtype, torch.float32))


def _may_run_short(problem: Problem, mask: Tensor | None) -> bool:
    """Whether a set may have fewer than two real examples."""
    return mask is not None or problem.chunk == 1 or problem.examples % problem.chunk == 1


def _flat(moments: Moments | None, blocks: int, problem: Problem) -> Tensor:
    """[2 · T · C] as C++ reads it; an absent site keeps its place."""
    if moments is None:
        return torch.zeros(2 * problem.steps * blocks * problem.units)
    return torch.cat([moments.mean.flatten(), moments.var.flatten()])


def _moments(
    statistics: Tensor, sites: tuple[Site, Site, Site], problem: Problem
) -> tuple[Moments | None, Moments | None, Moments | None]:
    """The sites' moments from C++'s memory: [T, K, 2, units / lanes, gates, lanes] each."""
    lanes = native.lanes(statistics.dtype)
    vectors = -(-problem.units // lanes)
    chunks = -(-problem.examples // problem.chunk)
    rows = problem.steps * chunks * 2 * vectors * lanes

    def read(site: Site, memory: Tensor, gates: int) -> Moments | None:
        if site.norm != "batch":
            return None
        both = memory.view(problem.steps, chunks, 2, vectors, gates, lanes).permute(2, 1, 0, 4, 3, 5)
        channels = both.flatten(-2)[..., : problem.units].flatten(-2)
        return Moments(channels[0], channels[1])

    x, h, c = statistics.split([4 * rows, 4 * rows, rows])
    return read(sites[0], x, 4), read(sites[1], h, 4), read(sites[2], c, 1)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        problem: Problem,
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
            "y": x.new_empty(problem.examples, problem.steps, problem.units),
            "c_last": x.new_empty(problem.examples, problem.units),
            "saved": x.new_empty(native.saved_size(problem, x.dtype)) if save else None,
            "running": running,
            "statistics": x.new_empty(native.statistics_size(problem, x.dtype)),
        }
        native.forward(problem, _named(tensors, **buffers), x.dtype)
        ctx.save_for_backward(*buffers.values(), *tensors)
        ctx.mark_non_differentiable(buffers["statistics"])
        ctx.problem = problem
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
            ctx.problem,
            _named(tensors, **buffers),
            _named(gradients, dy=dy.contiguous(), dc_last=dc_last.contiguous()),
            dy.dtype,
        )
        return None, None, None, None, *gradients


def _named(arguments: Sequence[Tensor | None], **others: Tensor | None) -> dict[str, Tensor | None]:
    return {**dict(zip(ARGUMENTS, arguments, strict=True)), **others}


def _problem(
    x: Tensor,
    weight_h: Tensor,
    bias: Tensor,
    sites: tuple[Site, Site, Site],
    parts: int,
    eps: float,
    pool: Pool | None,
) -> Problem:
    batch, steps, features = x.shape
    norms = [native.NORMS.index(site.norm) for site in sites]
    return Problem(
        examples=batch,
        steps=steps,
        inputs=features,
        units=weight_h.shape[1],
        parts=parts,
        chunk=batch if pool is None else min(batch, pool.examples),
        threads=torch.get_num_threads() if pool is not None else min(batch, torch.get_num_threads()),
        norm_x=norms[0],
        norm_h=norms[1],
        norm_c=norms[2],
        per_step=bias.ndim == 2,
        keep_x=features > KEEP_FROM,
        eps=eps,
    )


# W_x x is saved for the backward pass if x has more features than this; computing it again costs less before
KEEP_FROM = 32
