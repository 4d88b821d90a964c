"""A norm's input and output in numbers, taken from a sample of its channels and positions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from normlab.diagnoses.observed import SiteLook
from normlab.monitor.places import UNKNOWN, Norm, values_per_statistic
from normlab.probes.discrepancy import chance_mean

CHANNELS = 32  # enough for a mean over channels
POSITIONS = 16  # of an example, whose values resemble each other
VALUES = 4_096  # of norms whose statistics belong to one example
PADDED = 8  # channels in which positions are compared
FEATURES = 16  # of the network's input
_ROOT = 255.9  # of float16's largest number
_MEASURED = {"batch", "group", "instance", "layer", "rms"}


@dataclass
class Measured:
    """A call of a norm, and what its backward pass adds.

    known     what needs no reading from the device
    waiting   the rest, until the look is over
    negative  [C], nowhere positive
    large     float16 inputs whose squares overflow, without the last axis
    """

    norm: Norm
    known: dict[str, Any]
    waiting: dict[str, Tensor] = field(default_factory=dict)
    negative: Tensor | None = None
    large: Tensor | None = None


def size_of(x: Tensor) -> Tensor:
    """L2 norm of all values; not finite if one of them isn't."""
    return vector_norm(x.detach(), dtype=torch.promote_types(x.dtype, torch.float32))


def sample(x: Tensor, axis: int) -> Tensor:
    """[C, N] of x [B, ..., C, ...]: up to 32 channels and, per example, 16 positions, evenly spaced; all examples.

    A copy, because reducing over a few contiguous values is several times as fast as over the same ones where they lie.
    """
    if x.ndim < 2:
        return x.reshape(1, -1)
    axis %= x.ndim
    inner = [i for i in range(1, x.ndim) if i != axis]
    positions = math.prod(x.shape[i] for i in inner)
    step = math.ceil((positions / POSITIONS) ** (1 / len(inner))) if positions > POSITIONS else 1
    parts = [slice(None)] * x.ndim
    for i in inner:  # from the middle of a step, because a convolution's padding changes the borders
        parts[i] = slice(min(step, x.shape[i]) // 2, None, step)
    parts[axis] = slice(None, None, math.ceil(x.shape[axis] / CHANNELS) or 1)
    few = x[tuple(parts)].transpose(0, axis)
    return few.reshape(len(few), -1).contiguous()


def before(norm: Norm, x: Tensor, masked: bool, again: bool) -> Measured:
    """What a norm reads, before it updates its running statistics; of a repeated call, only whether it is the same."""
    x, batch = x.detach(), norm.kind.name == "batch"
    seen = Measured(norm, {})
    if not again or batch:
        seen.waiting["size"] = size_of(x)
    if batch:
        few = sample(x, norm.kind.axis).float()
        seen.waiting["variances"], seen.waiting["means"] = torch.var_mean(few, 1, correction=0)
    if again:
        return seen
    measured = norm.kind.name in _MEASURED and x.ndim > 1
    seen.known = {
        "path": norm.path, "training": norm.module.training, "dtype": str(x.dtype).removeprefix("torch."),
        "examples": x.shape[0] if x.ndim else 1, "values": values_per_statistic(norm, x) if measured else 0,
    }  # fmt: skip
    if measured and batch:
        if not masked:
            seen.waiting |= _running(norm, x)
        if x.ndim == 3 and not masked:
            seen.waiting["padded"] = padded_share(x if norm.kind.axis == -1 else x.transpose(1, 2))
    elif measured:
        seen.waiting["variance"] = _example_statistics(norm, x, seen.known["values"])
    if x.dtype == torch.float16 and x.ndim > 1:
        seen.large = x.abs().amax(-1) > _ROOT
    return seen


def _running(norm: Norm, x: Tensor) -> dict[str, Tensor]:
    """The running means, then variances, of the channels in the sample: copies, because the norm is to update them."""
    found, channels = norm.statistics, x.shape[norm.kind.axis]
    if found is None or found[0].numel() != channels:
        return {}
    return {"running": torch.cat([values[:: math.ceil(channels / CHANNELS)] for values in found])}


def _example_statistics(norm: Norm, x: Tensor, values: int) -> Tensor:
    sets = x[:: math.ceil(x.numel() / VALUES) or 1].reshape(-1, values).float()
    return (sets.square().mean(1) if norm.kind.name == "rms" else sets.var(1, correction=0)).median()


def padded_share(rows: Tensor) -> Tensor:
    """Share of positions in rows [B, T, C] that equal the one before, and each other in all examples: a scalar.

    Equal up to rounding, because a convolution's result for equal windows depends on how it is vectorised. A
    convolution's own zero padding changes the last positions, so these needn't be among them.
    """
    rows = rows[:, :, :: math.ceil(rows.shape[2] / PADDED) or 1].float()
    near = 1e-5 * rows.std()
    same = ((rows[:, 1:] - rows[:, :-1]).abs() <= near).all(-1)  # [B, T - 1]
    typical = torch.where(same[..., None], rows[:, 1:], math.nan).flatten(0, 1).nanmedian(0).values
    share = (same & ((rows[:, 1:] - typical).abs() <= 2 * near).all(-1)).float().mean()
    # else a single sequence with a constant end, or a network that computes nothing
    several = (same.any(1).sum() >= 2) & ~same.all()
    return torch.where(several, share, 0.0)


def after(seen: Measured, y: Tensor, size: Tensor) -> None:
    """What a norm returns, with its `size_of`, and its parameters; its gradient is seen in `gradient`."""
    y, kind = y.detach(), seen.norm.kind
    seen.waiting["returned"] = size
    if kind.gain is not None:
        seen.waiting["absolute"] = kind.gain.detach().float().abs().mean()
    if kind.bias is not None:
        seen.waiting["bias"] = kind.bias.detach().float().mean()
    if seen.large is not None and kind.axis == -1:  # divided by an infinite deviation, nothing but the bias comes out
        bias = 0.0 if kind.bias is None else kind.bias.detach().to(y.dtype)
        seen.waiting["constant"] = (seen.large & (y == bias).all(-1)).any()
    if y.ndim > 1 and kind.name != UNKNOWN:
        few = sample(y, kind.axis)
        seen.negative = few.amax(1) <= 0
        variances, means = torch.var_mean(few.float(), 1, correction=0)
        seen.waiting["spread"], seen.waiting["level"] = variances.sum(), means.square().sum()


def gradient(seen: Measured, g: Tensor) -> None:
    """The gradient at a norm's output."""
    if seen.negative is not None:
        moved = sample(g.detach(), seen.norm.kind.axis).any(1)
        seen.waiting["dead"] = (seen.negative & ~moved).float().mean()


def read(tensors: Iterable[Tensor]) -> list[list[float]]:
    """The values of many small tensors, with one transfer per device."""
    kept = list(tensors)
    found: list[list[float]] = [[] for _ in kept]
    for device in {value.device for value in kept}:
        here = [i for i, value in enumerate(kept) if value.device == device]
        numbers = torch.cat([kept[i].detach().reshape(-1) for i in here]).tolist()
        start = 0
        for i in here:
            found[i] = numbers[start : start + kept[i].numel()]
            start += kept[i].numel()
    return found


def site_look(calls: list[tuple[Measured, dict[str, list[float]]]], updates: int) -> SiteLook:
    """The first call of a norm, with what the others and the backward pass add; with the values of `waiting`."""
    first, values = calls[0]
    one = {name: value[0] for name, value in values.items() if len(value) == 1}
    finite = math.isfinite(one["size"])
    found: dict[str, Any] = {"variance": one.get("variance", math.nan)}
    if finite and (variances := values.get("variances")):
        found["variance"] = sorted(variances)[(len(variances) - 1) // 2]
        if "running" in values:
            found["shift"], found["log_ratio"] = _compared(first.norm, variances, values["means"], values["running"])
            found["chance"] = _chance(first.known["examples"])
    if not finite:
        first.known["values"], found["variance"] = 0, math.nan
    if one.get("spread", 0.0) + one.get("level", 0.0) > 0:
        found["varied"] = one["spread"] / (one["spread"] + one["level"])
    found |= {name: one[name] for name in ("absolute", "bias", "dead", "padded") if name in one}
    prints = [(values["size"], values["means"]) for _, values in calls if "means" in values]
    return SiteLook(
        **first.known, **found, finite=(finite, math.isfinite(one.get("returned", 0.0))),
        constant=bool(one.get("constant", 0.0)), updates=updates,
        repeated=any(other == prints[0] for other in prints[1:]),
    )  # fmt: skip


def _compared(
    norm: Norm, variances: list[float], means: list[float], running: list[float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The distance of a batch's means from the running ones in deviations, and the logarithm of running ÷ own variance.

    Channels without spread, as behind dead units, are left out.
    """
    eps, least = float(norm.kind.options.get("eps") or 0), 1e-8 * (1e-30 + max(variances))
    channels = zip(variances, means, running[: len(means)], running[len(means) :], strict=True)
    used = [(var + eps, mean - center, spread + eps) for var, mean, center, spread in channels if var > least]
    return (
        tuple(apart / math.sqrt(var) for var, apart, _ in used),
        tuple(_log(spread / var) for var, _, spread in used),
    )


def _log(x: float) -> float:
    """As a tensor's: -inf of 0, and NaN below."""
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


@cache
def _chance(examples: int) -> float:
    """Values of one example at different positions are no independent ones: examples are."""
    return float(chance_mean(torch.tensor(float(max(3, examples)))))


def inputs_of(arguments: Any) -> tuple[Tensor, Tensor, int] | None:
    """Means and variances over a batch of features of its first floating-point tensor, and the batch's size."""
    x = _first(arguments)
    if x is None or len(x) < 2:
        return None
    rows = x.detach().flatten(1)
    rows = rows[:, :: max(1, rows.shape[1] // FEATURES)][:, :FEATURES].float()
    var, mean = torch.var_mean(rows, 0)
    return mean, var, len(x)


def _first(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value if value.is_floating_point() and value.ndim > 1 else None
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return next((found for found in map(_first, items) if found is not None), None)
