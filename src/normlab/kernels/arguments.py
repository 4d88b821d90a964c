"""The arguments and results of a recurrence, and checks of their shapes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from normlab.config.schema import InputError

GATES = 4
ARGUMENTS = ("x", "h0", "c0", "weight_x", "weight_h", "bias", "gain_x", "gain_h", "gain_c", "bias_c")
DEVICES = ("cpu", "cuda")


class Sequences(NamedTuple):
    """The inputs of a recurrence.

    x     float32 or float64 [B, T, I]
    h     state before the first step, [B, H]; None: 0
    c     the same
    mask  bool [B, T], true where real; None: all real
    """

    x: Tensor
    h: Tensor | None = None
    c: Tensor | None = None
    mask: Tensor | None = None


class Weights(NamedTuple):
    """The weights of a cell, gates in the order forget, input, output, candidate.

    x     [4H, I]
    h     [4H, H]
    bias  [4H], or [T, 4H] if each step has its own
    """

    x: Tensor
    h: Tensor
    bias: Tensor


class CellNorm(NamedTuple):
    """A norm inside the cell, which computes gain · x̂ + bias.

    norm  what x̂ is: x itself (`none`), or x normalised by `rms`, `layer` or the statistics of a `batch`
    gain  [C], or [T, C] if each step has its own; None: 1
    bias  the same; None: 0. Only for c: the gates have the cell's bias
    """

    norm: str = "none"
    gain: Tensor | None = None
    bias: Tensor | None = None


class StepStatistics(NamedTuple):
    """Statistics of a site with C channels, for each time step.

    mean  [K, T, C], for each chunk of examples; or the running ones, [T, C]
    var   the same, biased
    """

    mean: Tensor
    var: Tensor


OfSites = tuple[StepStatistics | None, StepStatistics | None, StepStatistics | None]  # of x, h and c


class Pool(NamedTuple):
    """How sites with `batch` pool examples.

    examples  consecutive examples that share statistics; the last chunk may have fewer
    running   statistics for sets with fewer than two real examples; each is absent if not `batch`
    """

    examples: int
    running: OfSites


class CellNorms(NamedTuple):
    """The norms of a cell.

    x, h   over the 4H channels of the gates' inputs
    c      over H
    parts  1, or 4 for `rms` and `layer` over each gate's H alone
    eps    added to the variance or mean square
    pool   for `batch`, which is the norm of all sites or of none
    """

    x: CellNorm = CellNorm()
    h: CellNorm = CellNorm()
    c: CellNorm = CellNorm()
    parts: int = 1
    eps: float = 1e-5
    pool: Pool | None = None

    @property
    def sites(self) -> tuple[CellNorm, CellNorm, CellNorm]:
        """The norms of x, h and c."""
        return self.x, self.h, self.c


class States(NamedTuple):
    """The results of a recurrence.

    h           after each step, [B, T, H]
    c           after the last step, [B, H]
    statistics  used by `batch` sites, [K, T, C]; without gradient
    """

    h: Tensor
    c: Tensor
    statistics: OfSites


def flat(sequences: Sequences, weights: Weights, norms: CellNorms) -> tuple[Tensor | None, ...]:
    """The tensors with respect to which a loop is differentiated, in the order of `ARGUMENTS`."""
    gains = (site.gain for site in norms.sites)
    return (sequences.x, sequences.h, sequences.c, *weights, *gains, norms.c.bias)


def check(sequences: Sequences, weights: Weights, norms: CellNorms) -> None:
    """Raise InputError unless the arguments fit together, because the kernels don't check them."""
    x, mask, parts, pool = sequences.x, sequences.mask, norms.parts, norms.pool
    if x.device.type not in DEVICES:
        raise InputError(f"x is on {x.device}, but the fused LSTM runs only on the CPU or a GPU")
    if x.ndim != 3 or 0 in x.shape:
        raise InputError(f"x must be [examples, steps, features] with at least one of each, not {list(x.shape)}")
    if weights.h.ndim != 2:
        raise InputError(f"weight_h must be [4H, H], not {list(weights.h.shape)}")
    pooled = any(site.norm == "batch" for site in norms.sites)
    if pooled != (pool is not None) or any(site.norm in ("rms", "layer") for site in norms.sites if pooled):
        raise InputError("batch norm takes a pool, which no other norm does, and can't be combined with another norm")
    if pool is not None and pool.examples < 1:
        raise InputError(f"a pool needs at least one example, not {pool.examples}")
    if parts not in (1, GATES):
        raise InputError(f"parts={parts}: a norm sees all gates together (1) or each alone ({GATES})")
    (batch, steps, features), units = x.shape, weights.h.shape[1]
    rows = (steps,) if weights.bias.ndim == 2 else ()
    gates, cells = (*rows, GATES * units), (*rows, units)
    shapes = (
        (batch, steps, features),
        (batch, units),
        (batch, units),
        (GATES * units, features),
        (GATES * units, units),
        *(gates, gates, gates, cells, cells),
    )
    for name, tensor, shape in zip(ARGUMENTS, flat(sequences, weights, norms), shapes, strict=True):
        if tensor is None:
            continue
        if tensor.shape != shape:
            raise InputError(f"{name} must have the shape {list(shape)}, not {list(tensor.shape)}")
        if tensor.dtype != x.dtype or tensor.dtype not in (torch.float32, torch.float64):
            raise InputError(f"all tensors must be float32, or all float64: x is {x.dtype}, {name} {tensor.dtype}")
        if tensor.device != x.device:
            raise InputError(f"all tensors must be on one device: x is on {x.device}, {name} on {tensor.device}")
    if mask is not None and (mask.shape != (batch, steps) or mask.dtype != torch.bool or mask.device != x.device):
        raise InputError(
            f"mask must be bool [examples, steps] = {[batch, steps]} on {x.device}, "
            f"not {mask.dtype} {list(mask.shape)} on {mask.device}"
        )
    for site, size in zip(norms.sites, (GATES * units // parts, GATES * units // parts, units), strict=True):
        if site.norm == "layer" and size == 1:
            raise InputError("layer norm over one value is always 0; use at least two units")


def refuse_second_derivative() -> None:
    """Raise InputError in a backward pass that would have to be differentiable (create_graph=True)."""
    if torch.is_grad_enabled():
        raise InputError("the fused LSTM has no second derivative; model.kernel=plain has one")
