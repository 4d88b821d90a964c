"""What a recurrence is given and gives, and whether it fits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from normlab.config.schema import InputError

GATES = 4
ARGUMENTS = ("x", "h0", "c0", "weight_x", "weight_h", "bias", "gain_x", "gain_h", "gain_c", "bias_c")
DEVICES = ("cpu", "cuda")


class Site(NamedTuple):
    """A norm inside the cell, which computes gain · x̂ + bias.

    norm  what x̂ is: x itself (`none`), or x normalised by `rms`, `layer` or the statistics of a `batch`
    gain  [C], or [T, C] where each step has its own; None: 1
    bias  the same; None: 0. Only for c: the gates' bias is the cell's
    """

    norm: str = "none"
    gain: Tensor | None = None
    bias: Tensor | None = None


class Moments(NamedTuple):
    """Per-step statistics of a site with C channels.

    mean  [K, T, C], for each chunk of examples; or the running ones, [T, C]
    var   the same, biased
    """

    mean: Tensor
    var: Tensor


class Pool(NamedTuple):
    """How sites with `batch` pool.

    examples  consecutive examples that share statistics; the last chunk may have fewer
    running   of x, h and c, each absent if not `batch`: what sets of fewer than two real examples take
    """

    examples: int
    running: tuple[Moments | None, Moments | None, Moments | None]


class Result(NamedTuple):
    """What a recurrence gives.

    h        after each step, [B, T, H]
    c        after the last step, [B, H]
    moments  that `batch` sites took, of x, h and c, [K, T, C]; without gradient
    """

    h: Tensor
    c: Tensor
    moments: tuple[Moments | None, Moments | None, Moments | None]


def check(
    arguments: tuple[Tensor | None, ...],
    sites: tuple[Site, Site, Site],
    mask: Tensor | None,
    parts: int,
    pool: Pool | None,
) -> None:
    """Raise InputError unless the arguments fit one another: the kernels trust them."""
    x, _, _, _, weight_h, bias, *_ = arguments
    assert x is not None
    assert weight_h is not None
    assert bias is not None
    if x.device.type not in DEVICES:
        raise InputError(f"x lies on {x.device}, and the fused LSTM runs on the CPU or a GPU")
    if x.ndim != 3 or 0 in x.shape:
        raise InputError(f"x must be [examples, steps, features] with at least one of each, not {list(x.shape)}")
    if weight_h.ndim != 2:
        raise InputError(f"weight_h must be [4H, H], not {list(weight_h.shape)}")
    pooled = any(site.norm == "batch" for site in sites)
    if pooled != (pool is not None) or any(site.norm in ("rms", "layer") for site in sites if pooled):
        raise InputError("batch norm takes a pool, which no other norm does, and no other norm beside it")
    if pool is not None and pool.examples < 1:
        raise InputError(f"a pool has at least one example, not {pool.examples}")
    if parts not in (1, GATES):
        raise InputError(f"parts={parts}: a norm sees all gates together (1) or each alone ({GATES})")
    (batch, steps, features), units = x.shape, weight_h.shape[1]
    rows = (steps,) if bias.ndim == 2 else ()
    gates, cells = (*rows, GATES * units), (*rows, units)
    shapes = (
        (batch, steps, features),
        (batch, units),
        (batch, units),
        (GATES * units, features),
        (GATES * units, units),
        *(gates, gates, gates, cells, cells),
    )
    for name, tensor, shape in zip(ARGUMENTS, arguments, shapes, strict=True):
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise InputError(f"{name} must have the shape {list(shape)}, not {list(tensor.shape)}")
        if tensor.dtype != x.dtype or tensor.dtype not in (torch.float32, torch.float64):
            raise InputError(f"all tensors must be float32, or all float64: x is {x.dtype}, {name} {tensor.dtype}")
        if tensor.device != x.device:
            raise InputError(f"all tensors must lie on one device: x is on {x.device}, {name} on {tensor.device}")
    if mask is not None and (mask.shape != (batch, steps) or mask.dtype != torch.bool or mask.device != x.device):
        raise InputError(
            f"mask must be bool [examples, steps] = {[batch, steps]} on {x.device}, "
            f"not {mask.dtype} {list(mask.shape)} on {mask.device}"
        )
    for site, size in zip(sites, (GATES * units // parts, GATES * units // parts, units), strict=True):
        if site.norm == "layer" and size == 1:
            raise InputError("layer norm over one value is always 0; take at least two units")


def refuse_second_derivative() -> None:
    """Raise InputError in a backward pass that should itself be differentiable (create_graph=True)."""
    if torch.is_grad_enabled():
        raise InputError("the fused LSTM has no second derivative; model.kernel=plain has one")
