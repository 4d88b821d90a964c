"""Replaces the norms of any network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import gcd
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

from normlab.config.errors import InputError
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.sites.carry import Replacement, frozen, is_fixed_in_eval, replacement
from normlab.sites.find import Found, look
from normlab.sites.forward import unwrapped
from normlab.sites.options import FROZEN, norm_factory
from normlab.sites.table import NormSite, clipped, columns


@dataclass(frozen=True)
class Swapped:
    """A site with a new norm.

    lost  what of the old one has no place in the new one: gain, bias, running statistics
    """

    site: NormSite
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class SwapReport:
    """What `swap_norms` did; prints as a table.

    norm  its name
    done  the sites that have it now
    left  those that keep what they had, with the reason in `obstacle`, or none if `only` doesn't name them
    notes what to know before training
    """

    norm: str
    done: tuple[Swapped, ...]
    left: tuple[NormSite, ...] = ()
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Swapped]:
        return iter(self.done)

    def __str__(self) -> str:
        rows = [_row(swapped, self.norm) for swapped in self.done]
        text = [
            columns(("site", "norm", "layout", "carried"), rows),
            "",
            f"{len(self.done)} of {self.total} sites swapped",
        ]
        text += [clipped(f"left: {site.path}: {site.obstacle}") for site in self.left if site.obstacle]
        others = sum(not site.obstacle for site in self.left)
        text += [f"{others} other sites stay as they are"] if others else []
        return "\n".join([*text, *map(clipped, self.notes)])

    @property
    def total(self) -> int:
        """Number of sites found."""
        return len(self.done) + len(self.left)


def _row(swapped: Swapped, norm: str) -> tuple[str, ...]:
    site, lost = swapped.site, swapped.lost
    return site.path, f"{site.norm} → {norm}", site.layout, f"without {', '.join(lost)}" if lost else "all"


def swap_norms(
    net: nn.Module,
    norm: str | type[Norm],
    example: Any,
    *,
    only: str | Sequence[str] = "*",
    also: Mapping[type[nn.Module], str] | None = None,
    carry: bool = True,
    **options: Any,
) -> SwapReport:
    """Replace the norms of a network in place, all of them or none.

    A site keeps its gain and bias, as the same parameters where their shape allows it, so an existing optimiser goes on
    training them; batch norm's running statistics too if the new norm is batch norm. It also keeps its device, dtype,
    mode, hooks and whether it has a bias. An option that isn't given, such as eps, stays what it was at the site if the
    new norm has it. Checkpoints from before the swap can be loaded afterwards.

    Args:
        net: any network, see `norm_sites`.
        norm: name of a norm in `conf/norm`, or a class that extends `normlab.norms.base.Norm`, or `frozen`: batch
            norm's map in eval mode, with its running statistics as constants.
        example: a batch, as in `norm_sites`; of a size that the network is trained with.
        only: pattern of paths, or several, as in `layer*.bn1`.
        also: further classes of norms, see `norm_sites`.
        carry: False leaves gain, bias and running statistics at the new norm's initial values.
        options: of the norm, such as `groups=8`.

    Raises:
        InputError: an unknown norm or option, no site to replace, a site at which the norm isn't valid, or a norm that
            adds to the loss, which only normlab's own training does. Nothing has been replaced then.
    """
    make = None if norm == FROZEN else norm_factory(norm, options)[0].func
    if isinstance(make, type) and issubclass(make, Norm) and make.in_loss:
        raise InputError(
            f"{norm if isinstance(norm, str) else norm.__name__} adds terms to the loss, which your training would "
            "leave out: train the network by train.py with model=module, or use norm='batch'"
        )
    return swap_for_our_training(net, norm, example, only=only, also=also, carry=carry, **options)


def swap_for_our_training(
    net: nn.Module,
    norm: str | type[Norm],
    example: Any,
    *,
    only: str | Sequence[str] = "*",
    also: Mapping[type[nn.Module], str] | None = None,
    carry: bool = True,
    **options: Any,
) -> SwapReport:
    """`swap_norms` where the loss is one of normlab's tasks', so that the new norms may add to it."""
    make, known = (None, frozenset[str]()) if norm == FROZEN else norm_factory(norm, options)
    patterns = [only] if isinstance(only, str) else only
    if not isinstance(patterns, Sequence) or not all(isinstance(pattern, str) for pattern in patterns):
        raise InputError(f"only={only!r} must be a pattern of paths, or several, as in only='layer*.bn1'")
    if make is None and options:
        raise InputError(f"the frozen map has no options, such as {next(iter(options))}")
    found = look(net, example, also or {})
    chosen = _chosen(found, list(patterns))
    if make is None:
        chosen = [one for one in chosen if is_fixed_in_eval(one)] or chosen[:1]
    before = {id(value) for value in net.parameters()}
    made = []
    for one in chosen:
        try:
            with torch.inference_mode(False):  # whose parameters could never be trained
                made.append(frozen(one) if make is None else replacement(one, make, known, {*options}, carry))
        except InputError as error:
            raise InputError(_refusal(one, chosen, error)) from None
    for new in made:
        _put(unwrapped(net), new)
    _leave_fast_paths(unwrapped(net), [new.module for new in made])
    name = norm if isinstance(norm, str) else norm.__name__
    paths = {new.found.site.path for new in made}
    left = tuple(one.site for one in found if one.site.path not in paths or one.site.obstacle)
    return SwapReport(name, tuple(Swapped(new.found.site, new.lost) for new in made), left, tuple(_notes(made, before)))


def _notes(made: list[Replacement], before: set[int]) -> Iterator[str]:
    norms = [(new, norm) for new in made for norm in new.module.modules() if isinstance(norm, Norm)]
    if any(isinstance(norm, BatchNorm) and not new.statistics for new, norm in norms):
        yield "running statistics are 0 and 1 until training, or recalibrate(net, batches)"
    if any(norm.couples_positions and new.found.site.layout in ("BTC", "TBC") for new, norm in norms):
        yield "in sequences a position's statistics include later ones: not for a network that predicts the next token"
    fresh = [(name, p) for new in made for name, p in new.module.named_parameters() if id(p) not in before]
    if names := dict.fromkeys(name.rpartition(".")[2] for name, value in fresh if value.requires_grad):
        yield f"new parameters ({', '.join(names)}): an optimiser built before the swap doesn't train them"
    yield from _of_the_method([norm for _, norm in norms])


# norms that are their paper's activation too
_ACTIVATIONS = ("evo_b", "evo_s", "frn")


def _of_the_method(norms: Sequence[Norm]) -> Iterator[str]:
    """What its paper says of a norm and a swap can't know: the length of the training, and the layers after it."""
    for norm in {type(norm): norm for norm in norms}.values():
        name = norm.name
        if norm.counted:
            options = ", ".join(f"{option}=..." for option in norm.counted)
            yield f"{name} has a schedule in training passes ({options}): choose it for the length of your training"
        if name in _ACTIVATIONS:
            yield f"{name} contains an activation: in its paper no other one follows"


def _chosen(found: list[Found], patterns: list[str]) -> list[Found]:
    if not found:
        raise InputError(
            "the network has no norm that could be swapped; also={MyNorm: 'layer'} names a class that is one"
        )
    named = [
        one
        for one in found
        if any(path in patterns or _fits(path, patterns) for path in (one.site.path, *one.site.shared))
    ]
    if not named:
        paths = [one.site.path for one in found]
        shown = ", ".join(paths[:8]) + (", …" if len(paths) > 8 else "")
        raise InputError(f"only={patterns[0] if len(patterns) == 1 else patterns!r} names none of the norms: {shown}")
    able = [one for one in named if not one.site.obstacle]
    if not able:
        raise InputError(
            f"{named[0].site.path or type(named[0].module).__name__} can't be replaced: {named[0].site.obstacle}"
        )
    return able


def _fits(path: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _refusal(one: Found, chosen: list[Found], error: InputError) -> str:
    """The site, and which groups would do for all of them."""
    text = f"{one.site.path} ({one.site.called} at {one.site.layout}, {one.site.channels} channels): {error}"
    if "norm.groups=" in str(error):
        channels = [other.site.channels or 1 for other in chosen]
        common = gcd(*channels)
        flat = min((other.site.channels or 1 for other in chosen if other.site.layout == "BC"), default=None)
        valid = [str(n) for n in range(1, common + 1) if common % n == 0 and n != flat]
        text += f"; valid at all {len(chosen)} sites: groups={', '.join(valid)}"
    return f"{text}. Nothing was replaced"


# The dicts themselves, so that handles can still remove a hook
_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
    "_is_full_backward_hook",
)


def _put(net: nn.Module, new: Replacement) -> None:
    """At all paths of the old module, which may be shared, and with its hooks."""
    if not isinstance(new.found.module, LazyModuleMixin):
        vars(new.module).update({name: vars(new.found.module)[name] for name in _HOOKS})
    for path in (new.found.site.path, *new.found.site.shared):
        parent, _, name = path.rpartition(".")
        net.get_submodule(parent)._modules[name] = new.module


def _leave_fast_paths(net: nn.Module, new: list[nn.Module]) -> None:
    """torch's Transformer layers compute layer norm themselves in eval mode, whatever module stands there."""
    ours = {id(module) for module in new}
    for module in net.modules():
        if not any(id(child) in ours for child in module.modules()):
            continue
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
