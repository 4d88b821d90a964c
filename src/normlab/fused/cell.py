"""Which cells can use the fused recurrence, and how a cell's norms become its arguments."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from normlab.config.schema import InputError
from normlab.fused import batch as fused_batch
from normlab.fused.batch import Norms
from normlab.kernels import build
from normlab.kernels.arguments import CellNorm, CellNorms, Sequences, Weights
from normlab.kernels.recurrence import recurrence
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm
from normlab.norms.rms import RMSNorm

Kernel = Literal["auto", "plain", "fused"]

_KNOWN = {NoNorm: "none", RMSNorm: "rms", LayerNorm: "layer", BatchNorm: "batch"}


def choose(kernel: Kernel, norms: Norms) -> Literal["plain", "fused"]:
    """The kernel of a cell with these norms: `auto` uses the fused recurrence if it supports them.

    On a GPU, `auto` uses the plain cell (`serves`), because the Triton kernel was never timed on one. kernel=fused uses
    the Triton kernel, except for batch norm, whose statistics per step it doesn't support.

    If the library can't be built, a line on stderr says so once; norms that it doesn't support need no message.

    Raises:
        InputError: kernel=fused, but the fused recurrence can't be used.
    """
    if kernel == "plain":
        return "plain"
    reason = _obstacle(norms)
    if reason is None:
        reason = _unbuilt(kernel)
    if reason is None:
        return "fused"
    if kernel == "fused":
        raise InputError(f"model.kernel=fused can't be used here: {reason}; use model.kernel=plain")
    return "plain"


def serves(x: Tensor) -> bool:
    """Does kernel=auto use the fused recurrence for inputs like these now?"""
    raised = torch.is_autocast_enabled("cpu") or x.dtype in (torch.float32, torch.float64)
    return x.device.type == "cpu" and raised


def collecting(norms: Norms) -> bool:
    """Are batch norms pooling exact moments (`refresh_statistics`), which only the plain cell supports?"""
    return any(isinstance(norm, BatchNorm) and norm.collected is not None for norm in norms)


def run(sequences: Sequences, weights: Weights, norms: Norms) -> Tensor:
    """The hidden state after each step, [B, T, H]; see `recurrence`."""
    if any(isinstance(norm, BatchNorm) for norm in norms):
        return fused_batch.run(sequences, weights, norms)
    at_x, at_h, at_c = (_cell_norm(norm) for norm in norms)
    made = CellNorms(at_x, at_h, at_c)
    for norm in norms:
        if isinstance(norm, LayerNorm | RMSNorm):
            made = made._replace(parts=norm.parts, eps=norm.eps)
            break
    return recurrence(sequences, weights, made).h


def _cell_norm(norm: Norm | None) -> CellNorm:
    return CellNorm() if norm is None else CellNorm(_KNOWN[type(norm)], norm.gain, norm.bias)


def _obstacle(norms: Norms) -> str | None:
    for norm in norms:
        if norm is None:
            continue
        if type(norm) not in _KNOWN:
            return f"it does not support norm={norm.name}, only {', '.join(_KNOWN.values())}"
        if isinstance(norm, LayerNorm) and norm.num_features == norm.parts:
            return "layer norm over one unit is always 0"
        if isinstance(norm, BatchNorm) and norm.sync:
            return "it can't exchange statistics between processes (norm.sync=true)"
    if len({(type(norm), getattr(norm, "eps", None)) for norm in norms if norm is not None}) > 1:
        return "it has one norm for gates and cell, and model.norm_at chose different ones"
    return None


def _unbuilt(kernel: Kernel) -> str | None:
    """Why the library can't be built, if it can't; with `auto`, a line on stderr says so once."""
    try:
        build.load("lstm")
    except build.BuildError as error:
        if kernel == "auto":
            build.load_or_say("lstm")
        return str(error)
    return None
