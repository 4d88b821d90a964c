"""Builds the module that replaces a norm, with what the old one learnt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from normlab.config.errors import InputError
from normlab.norms.base import Layout, Norm
from normlab.norms.batch import BatchNorm
from normlab.sites.adapter import FrozenAffine, OldBatchNorm, OldNames, SwappedNorm, View, folded
from normlab.sites.find import Found
from normlab.sites.kinds import Kind
from normlab.sites.watch import Seen

_VIEWS: dict[str, View] = {"B…C": "flat", "TBC": "times_first"}
_WITHOUT_BIAS = ("rms", "rms_channel")  # by definition, so that another norm at their sites has one


@dataclass(frozen=True)
class Replacement:
    """A site's new module.

    lost  what of the old one has no place in it, in words
    """

    found: Found
    module: nn.Module
    lost: tuple[str, ...] = ()

    @property
    def statistics(self) -> bool:
        """Whether it has the running statistics of the old norm."""
        kind = self.found.kind
        return kind is not None and kind.mean is not None and "running statistics" not in self.lost


def replacement(
    found: Found, make: Callable[..., Norm], known: frozenset[str], given: set[str], carry: bool
) -> Replacement:
    """The norm for one site.

    Args:
        found: a site that can be replaced.
        make: the norm, with its options bound.
        known: names of its options.
        given: those that the caller chose; any other takes the site's value where the site has one.
        carry: whether gain, bias and running statistics are.

    Raises:
        InputError: the norm isn't valid there.
    """
    kind, seen, site = _parts(found)
    view = _VIEWS.get(site.layout, "same")
    layout: Layout = "BTC" if view != "same" else site.layout
    own = {name: value for name, value in kind.options.items() if name in known - given}
    calls = [_lengths(shape, site.layout) for shape in dict.fromkeys(seen.shapes)]
    with torch.device(seen.device or "cpu"):
        norm = make(
            site.channels,
            layout,
            positions=max(lengths["T"] for lengths in calls) if layout == "BTC" else None,
            bias=kind.bias is not None or kind.name in _WITHOUT_BIAS,
            **own,
        )
    for lengths in calls:
        _refuse_single(norm, lengths)
    dtype = seen.dtype if kind.gain is None else kind.gain.dtype
    norm.to(dtype)
    lost = _fill(norm, kind) if carry else _fresh(norm, kind)
    if kind.frozen:
        norm.requires_grad_(False)
    then = [found.module.get_submodule(name) for name in kind.then]
    strided = norm.layout == "BTC" and "T" in norm.pooled
    plain = view == "same" and not (then or seen.keyword or strided) and norm.gain is not None
    like = torch.empty(0, dtype=dtype, device=seen.device or "cpu")
    module = norm if plain else SwappedNorm(norm, like, view, nn.Sequential(*then) if then else None)
    if kind.names:
        names = _old_names(found.module, kind, norm, "" if plain else "norm.")
        for hook in (*_earlier(found.module), names):
            module.register_load_state_dict_pre_hook(hook)
    module.train(found.module.training)
    return Replacement(found, module, tuple(lost))


def is_fixed_in_eval(found: Found) -> bool:
    """Whether a site is batch norm with running statistics."""
    return found.kind is not None and found.kind.mean is not None


def frozen(found: Found) -> Replacement:
    """Batch norm's affine map in eval mode.

    Raises:
        InputError: the site isn't batch norm with running statistics.
    """
    kind, seen, site = _parts(found)
    if kind.mean is None or kind.var is None:
        raise InputError(
            f"{site.norm} norm is not a fixed map in eval mode; only batch norm with running statistics is"
        )
    scale, shift = folded((kind.mean, kind.var), kind.options["eps"], kind.gain, kind.bias)
    dtype = seen.dtype if kind.gain is None else kind.gain.dtype
    affine = FrozenAffine(scale.to(dtype), shift.to(dtype), site.layout)
    affine.gain.requires_grad_(kind.gain is not None and kind.gain.requires_grad)
    affine.bias.requires_grad_(kind.bias is not None and kind.bias.requires_grad)
    then = [found.module.get_submodule(name) for name in kind.then]
    module = nn.Sequential(affine, *then) if then else affine
    names = {role: old for old, role in kind.names.items() if old in found.module.state_dict()}
    roles = {"running_mean", "running_var", *(name for name in ("gain", "bias") if getattr(kind, name) is not None)}
    if roles <= {*names}:
        hook = OldBatchNorm({role: names[role] for role in roles}, kind.options["eps"], "0." if then else "")
        module.register_load_state_dict_pre_hook(hook)
    return Replacement(found, module.train(found.module.training))


def _parts(found: Found) -> tuple[Kind, Seen, Any]:
    assert found.kind is not None
    assert found.seen is not None
    return found.kind, found.seen, found.site


def _lengths(shape: tuple[int, ...], layout: str) -> dict[str, int]:
    """Axes other than C in a call."""
    if layout == "TBC":
        return {"B": shape[1], "T": shape[0]}
    if layout in ("BTC", "B…C"):
        return {"B": shape[0], "T": torch.Size(shape[1:-1]).numel()}
    return {letter: length for letter, length in zip(layout, shape, strict=True) if letter != "C"}


def _refuse_single(norm: Norm, lengths: dict[str, int]) -> None:
    """Statistics over one value make the output independent of the input."""
    if 0 in lengths.values() or norm.values_per_statistic(lengths) != 1:
        return
    seen = ", ".join(f"{letter}={length}" for letter, length in lengths.items())
    if norm.pooled == "B" or (norm.couples_examples and lengths["B"] == 1):
        raise InputError(f"it would see a single value per channel ({seen}): give an example of at least 2 examples")
    if "C" in norm.pooled:
        seen += f", {norm.pooled_channels} of {norm.num_features} channels"
        larger = "" if set(norm.pooled) == {"C"} else " or larger inputs"
        remedy = f"leave this site out with only=..., or use more channels{larger}"
    else:
        remedy = f"use norm={norm.nearest}, or larger inputs"
    raise InputError(f"it would take its statistics over a single value ({seen}): {remedy}")


def _fill(norm: Norm, kind: Kind) -> list[str]:
    """Move gain, bias and running statistics; what has no place is returned in words."""
    lost = []
    for name, value in (("gain", kind.gain), ("bias", kind.bias)):
        new = getattr(norm, name)
        if new is not None and name == "gain" and bool((new != 1).any()):
            new = None  # a gain that starts elsewhere, as in grn, scales something else
        if value is not None and new is None:
            lost += [name] if bool((value != (1.0 if name == "gain" else 0.0)).any()) else []
        elif isinstance(value, nn.Parameter) and value.shape == new.shape and value.device == new.device:
            setattr(norm, name, value)  # the same object: optimisers and ties stay
        elif value is not None:
            with torch.no_grad():
                new.copy_(value)
            new.requires_grad_(value.requires_grad)
        elif name == "gain" and new is not None:
            new.requires_grad_(False)  # the site has none
    if isinstance(norm, BatchNorm) and kind.mean is not None and kind.var is not None:
        with torch.no_grad():
            norm.running_mean.copy_(kind.mean)
            norm.running_var.copy_(kind.var)
            if norm.momentum is None and kind.tracked is not None:
                norm.num_batches_tracked.copy_(kind.tracked)
    elif kind.mean is not None:
        lost.append("running statistics")
    return lost


def _fresh(norm: Norm, kind: Kind) -> list[str]:
    """Initial values; a site without a gain stays without."""
    if kind.gain is None and norm.gain is not None:
        norm.gain.requires_grad_(False)
    learnt = {"gain": kind.gain, "bias": kind.bias, "running statistics": kind.mean}
    return [name for name, value in learnt.items() if value is not None]


def _earlier(module: nn.Module) -> list[OldNames]:
    """Those of earlier swaps at the site."""
    hooks = [getattr(registered, "hook", None) for registered in module._load_state_dict_pre_hooks.values()]
    return [hook for hook in hooks if isinstance(hook, OldNames)]


def _old_names(module: nn.Module, kind: Kind, norm: Norm, inner: str) -> OldNames:
    """Names in the old state dict → in the new one; a value that is stored in another way has none."""
    new = {name for name, value in norm.state_dict().items() if isinstance(value, Tensor)}
    present = {old: role for old, role in kind.names.items() if old in module.state_dict()}
    names = {old: f"{inner}{role}" if role in new else None for old, role in present.items()}
    if "num_batches_tracked" in module.state_dict():
        names.setdefault("num_batches_tracked", None)
    had = {name for name, value in (("gain", kind.gain), ("bias", kind.bias)) if value is not None}
    return OldNames(names, tuple(f"{inner}{name}" for name in sorted(new - had - {*present.values()})))
