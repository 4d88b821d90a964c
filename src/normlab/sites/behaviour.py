"""Recognises norms under other names by what they compute, tried on random inputs with random gains and biases.

A library's norm is recognised if its output equals a float64 formula at two scales of the input, so that eps counts;
its name doesn't matter. Only a copy of the module is ever called.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from normlab.sites.forward import random_states
from normlab.sites.kinds import Kind, kind_as, torch_base
from normlab.sites.watch import Seen

_TOLERANCE = 1e-4  # of outputs of size 1, in float32
_SCALES = (1.0, 3e-3)  # at the second one, an eps of 1e-6 is a tenth of the variance
_NO_EPS = 1e-12


def small(module: nn.Module, channels: int) -> bool:
    """Whether it can be a norm by its values, and isn't one of torch's other modules or a container."""
    values = [value.numel() for value in (*module.parameters(), *module.buffers())]
    own = list(module.parameters(recurse=False)) + list(module.buffers(recurse=False))
    alone = not list(module.children())
    return sum(values) <= 4 * channels + 16 and bool(own or alone) and not _of_torch(module)


def _of_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.")


def behaviour(module: nn.Module, seen: Seen) -> Kind | None:
    """The kind of norm that a module computes; None if it isn't one of those known here.

    Args:
        module: called with one tensor, and returns one of its shape; it is not changed.
        seen: its calls.
    """
    shape = seen.shapes[0]
    if not 2 <= len(shape) <= 5 or any(length == 0 for length in shape):
        return None
    try:
        trial = copy.deepcopy(module).float().cpu().eval()
        with torch.device("cpu"), torch.no_grad(), random_states(trial):  # whatever the default device is
            torch.manual_seed(0)
            return _as_base(module, trial, shape) or _by_formula(module, trial, shape)
    except Exception:  # a module that can't be copied or called alone is not recognised
        return None


def _inputs(shape: tuple[int, ...]) -> list[Tensor]:
    """Means and spreads differ from one example and channel to another, as each axis must count."""
    found = []
    for scale in _SCALES:
        x = torch.randn(max(shape[0], 4), *shape[1:])
        for axis in {0, 1, x.ndim - 1}:
            lengths = [x.shape[i] if i == axis else 1 for i in range(x.ndim)]
            x = x * (0.5 + torch.rand(lengths)) + 0.5 * torch.randn(lengths)
        found.append(scale * x)
    return found


def _same(y: Tensor, expected: Tensor) -> bool:
    return bool((y.double() - expected.double()).abs().max() <= _TOLERANCE * (1 + expected.abs().max()))


def _as_base(module: nn.Module, trial: nn.Module, shape: tuple[int, ...]) -> Kind | None:
    """A subclass of one of torch's norms: what that computes, then the subclass's own children one after the other."""
    base = torch_base(module)
    if base is None:
        return None
    _randomise(trial)
    children = [(name, child) for name, child in trial.named_children() if not list(child.parameters())]
    for then in ([], children):
        for x in _inputs(shape):
            try:
                expected = base.forward(trial, x.clone())
            except Exception:  # the subclass takes another layout
                return None
            for _, child in then:
                expected = child(expected)
            if not _same(trial.forward(x.clone()), expected):
                break
        else:
            kind = kind_as(module, base)
            return Kind(**{**vars(kind), "then": tuple(name for name, _ in then)})
    return None


def _randomise(trial: nn.Module) -> None:
    for value in (*trial.parameters(), *trial.buffers()):
        if value.is_floating_point():
            value.copy_(0.5 + torch.rand_like(value))


@dataclass(frozen=True)
class _Formula:
    """x̂ of one norm: statistics over all of an example's `blocks` equal parts of channels, or given ones."""

    name: str
    axis: int
    eps: float
    blocks: int = 1
    positions: bool = False  # pooled too
    centred: bool = True

    def __call__(self, x: Tensor) -> Tensor:
        x = x.double().movedim(self.axis, -1)
        flat = x.reshape(x.shape[0], -1, self.blocks, x.shape[-1] // self.blocks)
        over = (1, 3) if self.positions else (3,)
        if self.centred:
            flat = flat - flat.mean(over, keepdim=True)
        flat = flat * torch.rsqrt(flat.square().mean(over, keepdim=True) + self.eps)
        return flat.reshape(x.shape).movedim(-1, self.axis)

    def options(self) -> dict[str, Any]:
        return {"eps": self.eps} | ({"groups": self.blocks} if self.name == "group" else {})


def _formulas(module: nn.Module, shape: tuple[int, ...]) -> Iterator[_Formula]:
    numbers = [v for m in module.modules() for v in vars(m).values() if isinstance(v, int | float)]
    for eps in dict.fromkeys([*(float(v) for v in numbers if 0 < v < 0.1), 1e-5, 1e-6, _NO_EPS]):
        yield _Formula("layer", -1, eps)
        yield _Formula("rms", -1, eps, centred=False)
        if len(shape) > 2:
            yield _Formula("layer_channel", 1, eps)
            yield _Formula("rms_channel", 1, eps, centred=False)
            yield _Formula("instance", 1, eps, blocks=shape[1], positions=True)
            yield _Formula("rms", 1, eps, positions=True, centred=False)
        named = [v for m in module.modules() for k, v in vars(m).items() if "group" in k and isinstance(v, int)]
        for groups in dict.fromkeys([1, *named]):
            if groups > 0 and shape[1] % groups == 0:
                yield _Formula("group", 1, eps, blocks=groups, positions=True)


def _by_formula(module: nn.Module, trial: nn.Module, shape: tuple[int, ...]) -> Kind | None:
    _randomise(trial)
    inputs = _inputs(shape)
    outputs = [trial.forward(x.clone()) for x in inputs]
    if running := _running(module, trial, inputs, outputs):
        return running
    if not _same(trial.forward(1e3 * inputs[0]), trial.forward(1e4 * inputs[0])):
        return None  # the other norms keep only what the scale of a large input doesn't change
    for formula in _formulas(module, shape):
        fitted = _fit([formula(x) for x in inputs], outputs, formula.axis)
        if fitted is not None:
            gain, bias, names = _carriers(module, trial, fitted)
            return Kind(formula.name, formula.axis, formula.options(), gain, bias, names=names)
    return None


def _rows(x: Tensor, axis: int) -> Tensor:
    return x.double().movedim(axis, -1).flatten(0, -2)


def _fit(standard: list[Tensor], outputs: list[Tensor], axis: int) -> tuple[Tensor, Tensor] | None:
    """Gain and bias per channel, [C] each, if with them the outputs are those of the formula."""
    x, y = (torch.cat([_rows(t, axis) for t in tensors]) for tensors in (standard, outputs))
    centre, middle = x.mean(0), y.mean(0)
    gain = ((x - centre) * (y - middle)).sum(0) / (x - centre).square().sum(0).clamp(min=1e-30)
    bias = middle - gain * centre
    small_bias = bias.abs().max() < _TOLERANCE
    bias = torch.zeros_like(bias) if small_bias else bias
    flat = gain.abs().max() < 1e-3  # an output that doesn't depend on the input fits everything
    return None if flat or not _same(y, x * gain + bias) else (gain, bias)


def _running(module: nn.Module, trial: nn.Module, inputs: list[Tensor], outputs: list[Tensor]) -> Kind | None:
    """Batch norm by its running statistics, which it may use in training too."""
    if not all(isinstance(getattr(trial, name, None), Tensor) for name in ("running_mean", "running_var")):
        return None
    mean, var = (getattr(trial, name).double().clone() for name in ("running_mean", "running_var"))
    for eps in dict.fromkeys([float(getattr(module, "eps", 1e-5)), 1e-5]):
        fitted = _fit([((x.double().movedim(1, -1) - mean) * torch.rsqrt(var + eps)).movedim(-1, 1) for x in inputs],
                      outputs, 1)  # fmt: skip
        if fitted is None:
            continue
        gain, bias, names = _carriers(module, trial, fitted)
        frozen = _same(trial.train().forward(inputs[0].clone()), outputs[0])
        names |= {name: name for name in ("running_mean", "running_var")}
        statistics = {name: getattr(module, f"running_{name}") for name in ("mean", "var")}
        return Kind("frozen_batch" if frozen else "batch", 1, {"eps": eps}, gain, bias, names=names, **statistics)
    return None


def _carriers(
    module: nn.Module, trial: nn.Module, fitted: tuple[Tensor, Tensor]
) -> tuple[Tensor | None, Tensor | None, dict[str, str]]:
    """Gain and bias of the module itself: which of its values, or those plus 1, they are in the trial."""
    own = dict((*module.named_parameters(), *module.named_buffers()))
    tried = dict((*trial.named_parameters(), *trial.named_buffers()))
    found: list[Tensor | None] = []
    names: dict[str, str] = {}
    for role, values in zip(("gain", "bias"), fitted, strict=True):
        found.append(None)
        for name, value in tried.items():
            if value.numel() not in (1, values.numel()) or not value.is_floating_point():
                continue
            for offset in (0.0, 1.0) if role == "gain" else (0.0,):
                if _same(values, value.flatten().expand_as(values) + offset):
                    plain = offset == 0.0 and value.shape == values.shape
                    found[-1] = own[name] if plain else _shifted(own[name], offset, len(values))
                    names |= {name: role} if plain else {}
    gain, bias = found
    if (gain is None and not _same(fitted[0], torch.ones_like(fitted[0]))) or (bias is None and fitted[1].any()):
        raise ValueError("what the gain or the bias is made of is not known")
    return gain, bias, names


def _shifted(value: Tensor, offset: float, channels: int) -> Tensor:
    """The gain of a module that stores its difference from `offset`, or one value for all channels."""
    shifted = (value.detach().flatten().expand(channels) + offset).clone()
    return nn.Parameter(shifted, requires_grad=value.requires_grad)
