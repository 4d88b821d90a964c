"""A norm's input and output in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from normlab.monitor.observed import SiteLook
from normlab.monitor.places import UNKNOWN, Norm, values_per_statistic
from normlab.probes.discrepancy import chance_mean

_CHANNELS = 32  # enough for a mean over channels
_FEATURES = 64
_ROOT = 255.9  # of float16's largest number
_MEASURED = {"batch", "group", "instance", "layer", "rms"}


@dataclass
class Measured:
    """A call of a norm, and what its backward pass adds."""

    norm: Norm
    numbers: dict[str, Any]
    print_: tuple[float, ...]  # equal for equal inputs
    large: Tensor | None = None  # float16 inputs whose squares overflow, without the last axis
    negative: Tensor | None = None  # [C], nowhere positive
    dead: Tensor | None = None


def before(norm: Norm, x: Tensor, masked: bool) -> Measured:
    """What a norm reads, before it updates its running statistics."""
    x = x.detach()
    wide = x.float()
    numbers: dict[str, Any] = {
        "path": norm.path, "training": norm.module.training, "dtype": str(x.dtype).removeprefix("torch."),
        "examples": x.shape[0] if x.ndim else 1, "values": 0, "variance": float("nan"),
    }  # fmt: skip
    finite = bool(wide.isfinite().all())
    print_ = (float(wide.sum()), float(wide.square().sum()))
    numbers["finite"] = (finite, True)
    if norm.kind.gain is not None:
        numbers["absolute"] = float(norm.kind.gain.detach().float().abs().mean())
    if norm.kind.bias is not None:
        numbers["bias"] = float(norm.kind.bias.detach().float().mean())
    if finite and norm.kind.name in _MEASURED and x.ndim > 1:
        numbers |= _statistics(norm, wide)
        if norm.kind.name == "batch" and x.ndim == 3 and not masked:
            numbers["padded"] = padded_share(x if norm.kind.axis == -1 else x.transpose(1, 2))
    large = wide.abs().amax(-1) > _ROOT if x.dtype == torch.float16 and x.ndim > 1 else None
    return Measured(norm, numbers, print_, large)


def _statistics(norm: Norm, x: Tensor) -> dict[str, Any]:
    values = values_per_statistic(norm, x)
    if norm.kind.name != "batch":
        sets = x.reshape(-1, values)
        own = sets.square().mean(1) if norm.kind.name == "rms" else sets.var(1, correction=0)
        return {"values": values, "variance": float(own.median())}
    rows = x.movedim(norm.kind.axis, -1).flatten(0, -2)
    var, mean = torch.var_mean(rows, 0, correction=0)
    found: dict[str, Any] = {"values": values, "variance": float(var.median())}
    if (running := norm.statistics) is not None and running[0].numel() == mean.numel():
        # channels without spread, as behind dead units, are left out
        used = (var > 1e-8 * (1e-30 + var.max())).nonzero()[:, 0][:_CHANNELS]
        eps = float(norm.kind.options.get("eps") or 0)
        deviation = (var[used] + eps).sqrt()
        found["shift"] = tuple(((mean - running[0])[used] / deviation).tolist())
        found["log_ratio"] = tuple(((running[1][used] + eps) / (var[used] + eps)).log().tolist())
        # values of one example at different positions are no independent ones: examples are
        found["chance"] = float(chance_mean(torch.tensor(float(max(3, len(x))))))
    return found


def padded_share(rows: Tensor) -> float:
    """Share of positions in rows [B, T, C] that equal the one before, and each other in all examples.

    Equal up to rounding, because a convolution's result for equal windows depends on how it is vectorised. A
    convolution's own zero padding changes the last positions, so these needn't be among them.
    """
    rows = rows.float()
    near = 1e-5 * rows.std()
    same = ((rows[:, 1:] - rows[:, :-1]).abs() <= near).all(-1)  # [B, T - 1]
    if int(same.any(1).sum()) < 2 or bool(same.all()):
        return 0.0  # a single sequence with a constant end, or a network that computes nothing
    found = rows[:, 1:][same]
    return float(((found - found.median(0).values).abs() <= 2 * near).all(-1).sum() / same.numel())


def after(seen: Measured, y: Tensor) -> None:
    """What a norm returns; its gradient is seen in `gradient`."""
    y = y.detach().float()
    kind = seen.norm.kind
    finite = bool(y.isfinite().all())
    seen.numbers["finite"] = (seen.numbers["finite"][0], finite)
    if seen.large is not None and kind.axis == -1:  # divided by an infinite deviation, nothing but the bias comes out
        bias = 0.0 if kind.bias is None else kind.bias.detach().float()
        seen.numbers["constant"] = bool((seen.large & (y == bias).all(-1)).any())
    if y.ndim > 1 and kind.name != UNKNOWN:
        seen.negative = y.movedim(kind.axis, -1).flatten(0, -2).amax(0) <= 0


def gradient(seen: Measured, g: Tensor) -> None:
    """The gradient at a norm's output."""
    if seen.negative is not None:
        still = g.detach().movedim(seen.norm.kind.axis, -1).flatten(0, -2).abs().amax(0) == 0
        seen.dead = (seen.negative & still).float().mean()


def site_look(seen: Measured, calls: list[Measured], updates: int) -> SiteLook:
    """The first call with what the others and the backward pass add."""
    dead = float("nan") if seen.dead is None else float(seen.dead)
    repeated = any(other.print_ == seen.print_ for other in calls[1:])
    return SiteLook(**seen.numbers, dead=dead, repeated=repeated, updates=updates)


def inputs_of(arguments: Any) -> tuple[tuple[float, ...], tuple[float, ...], int] | None:
    """Means and variances over a batch of features of its first floating-point tensor."""
    x = _first(arguments)
    if x is None or len(x) < 2:
        return None
    rows = x.detach().flatten(1)
    rows = rows[:, :: max(1, rows.shape[1] // _FEATURES)][:, :_FEATURES].float()
    var, mean = torch.var_mean(rows, 0)
    return tuple(mean.tolist()), tuple(var.tolist()), len(x)


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value if value.is_floating_point() and value.ndim > 1 else None
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((found for found in map(_first, items) if found is not None), None)
