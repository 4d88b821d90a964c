"""Finds the norm sites of any network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from normlab.config.errors import InputError
from normlab.sites.behaviour import behaviour, small
from normlab.sites.forward import batch_of, in_one_line, unwrapped
from normlab.sites.kinds import Kind, torch_base, torch_kind
from normlab.sites.options import check_also
from normlab.sites.table import NormSite, NormSites
from normlab.sites.watch import Seen, Watch, settle, watch

_SPATIAL = {2: "BC", 3: "BCL", 4: "BCHW", 5: "BCDHW"}
# norm → axes of its statistics in a layout, where `·` is all its positions
_OVER = {"batch": "B·", "instance": "·", "group": "C·", "layer_channel": "C", "rms_channel": "C"}


@dataclass(frozen=True)
class Found:
    """A site with what replacing it needs. `kind` and `seen` are there wherever it can be replaced."""

    site: NormSite
    module: nn.Module
    kind: Kind | None = None
    seen: Seen | None = None


def norm_sites(net: nn.Module, example: Any, *, also: Mapping[type[nn.Module], str] | None = None) -> NormSites:
    """All norms of a network: what they are, what they see, and which of them `swap_norms` can replace.

    The network runs once with the example, in eval mode, which shows the layout of every site; if that doesn't reach
    all modules, once more in training mode. Afterwards it is as before, including buffers and all random states. Found
    are

    - torch's norms, and subclasses that compute the same,
    - norms of other libraries, if on random inputs they equal batch, layer, group, instance or RMS norm, also with one
      of their own activations behind it; their names don't matter,
    - classes named in `also`,
    - norms called as functions (`F.layer_norm`, …), in scripted modules, or not reached by the example, and modules
      with a norm's name that none of this applies to: they are listed with the reason why they can't be replaced.

    A norm written out in a module that does more than that isn't seen.

    Args:
        net: any network; in a wrapper such as `nn.DataParallel` or `torch.compile`, paths are those of what it wraps.
        example: a batch: a tensor, a tuple of arguments, a dict of named ones, or a function that calls the network.
            Its first axis is the batch.
        also: further classes, with the name of the norm that they are: `{MyNorm: "rms"}`.

    Raises:
        InputError: the network doesn't accept the example.
    """
    return NormSites(tuple(found.site for found in look(net, example, also or {})))


def look(net: nn.Module, example: Any, also: Mapping[type[nn.Module], str]) -> list[Found]:
    """The sites that `norm_sites` lists."""
    check_also(also)
    if not isinstance(net, nn.Module):
        raise InputError(f"the network must be an nn.Module, not a {type(net).__name__}")
    net, batch = unwrapped(net), batch_of(example)
    if batch == 0:
        raise InputError("the batch is empty: give one of a size that the network is trained with")
    try:
        seen = watch(net, example)
        settle(seen, net, example, batch)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{type(net).__name__} does not accept the example: {in_one_line(error)}") from error
    paths: dict[int, list[str]] = {}
    for path, module in net.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)
    found: list[Found] = []
    inside: list[str] = []  # of norms, whose parts are no sites of their own
    for path, module in net.named_modules():
        if any(_within(path, outer) for outer in inside):
            continue
        ran = seen.lazy.get_submodule(path) if seen.lazy is not None else module
        one = _site(path, module, ran, _calls(seen, paths[id(module)]), batch, also=also)
        if one is not None:
            found.append(replace(one, site=replace(one.site, shared=tuple(paths[id(module)][1:]))))
            inside += [path] if one.kind is not None else []
    return _without_wrappers(found) + _functions(seen, net, [one.site.path for one in found])


def _within(path: str, outer: str) -> bool:
    return path != outer and (not outer or path.startswith(f"{outer}."))


def _calls(seen: Watch, paths: list[str]) -> Seen | None:
    return next((seen.calls[path] for path in paths if path in seen.calls), None)


def _site(
    path: str, module: nn.Module, ran: nn.Module, seen: Seen | None, batch: int | None,
    also: Mapping[type[nn.Module], str],
) -> Found | None:  # fmt: skip
    called = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        name = getattr(module, "original_name", called)
        why = "it is scripted, so it can't be replaced: swap before scripting"
        return Found(NormSite(path, name, obstacle=why), module) if "norm" in name.lower() else None
    kind = torch_kind(ran) or _registered(ran, also)
    if seen is None:
        return _unreached(path, module, kind)
    channels = next((size for size in seen.shapes[0][-1:]), 0)
    if kind is None and small(ran, max(seen.shapes[0], default=0)):
        kind = behaviour(ran, seen) if seen.plain else None
        if kind is None and "norm" in called.lower():
            why = "what it computes is not known; also={" + called + ": …} says so" if seen.plain else _NOT_PLAIN
            return Found(NormSite(path, called, calls=len(seen.shapes), obstacle=why), module)
    if kind is None and torch_base(ran) is not None:
        why = "a subclass with its own forward, which does something else"
        return Found(NormSite(path, called, calls=len(seen.shapes), obstacle=why), module)
    if kind is None:
        return None
    layout, why = layout_of(kind, seen, batch)
    channels = seen.shapes[0][kind.axis] if len(seen.shapes[0]) > 1 else channels
    why = kind.obstacle or (_NOT_PLAIN if not seen.plain else "") or why or ("" if path else "it is the network itself")
    options = tuple(kind.options.items())
    site = NormSite(
        path=path, called=called, norm=kind.name, layout=layout, channels=channels, over=_over(kind, layout),
        options=options, trained=trained(kind), calls=len(seen.shapes), obstacle=why,
    )  # fmt: skip
    return Found(site, module, kind, seen)


_NOT_PLAIN = "it takes more than one tensor, or returns something else than one of the same shape"


def _registered(module: nn.Module, also: Mapping[type[nn.Module], str]) -> Kind | None:
    """A class that the user names: its gain and bias are its parameters of one axis."""
    name = next((name for kind, name in also.items() if isinstance(module, kind)), None)
    if name is None:
        return None
    own = {key: value for key, value in module.named_parameters() if value.ndim == 1}
    gain = next((key for key in ("weight", "gain", "gamma", "scale", "g") if key in own), None)
    bias = next((key for key in ("bias", "beta", "shift", "b") if key in own), None)
    eps = next((v for k, v in vars(module).items() if "eps" in k and isinstance(v, float)), None)
    names: dict[str, str] = {key: role for key, role in ((gain, "gain"), (bias, "bias")) if key is not None}
    axis = 1 if name in ("batch", "group", "instance", "layer_channel") else -1
    gains, biases = own.get(gain or ""), own.get(bias or "")
    return Kind(name, axis, {} if eps is None else {"eps": eps}, gains, biases, names=names)


def _unreached(path: str, module: nn.Module, kind: Kind | None) -> Found | None:
    """Without an input, only classes known by their name are norms."""
    called = type(module).__name__
    if kind is None and torch_base(module) is None and ("norm" not in called.lower() or list(module.children())):
        return None
    why = "the example doesn't reach it, so its layout is not known"
    name, options = (kind.name, tuple(kind.options.items())) if kind else ("", ())
    gain = getattr(kind, "gain", None)
    channels = None if gain is None or is_lazy(gain) else gain.numel()
    changed = trained(kind) if kind and channels else ()
    site = NormSite(path, called, name, channels=channels, options=options, trained=changed, obstacle=why)
    return Found(site, module, kind)


def layout_of(kind: Kind, seen: Seen, batch: int | None) -> tuple[str, str]:
    """The layout of a site's input, and why it can't be replaced there; `B…C` is any number of axes before C."""
    sizes = {len(shape) for shape in seen.shapes}
    if min(sizes) < 2:
        return "C", "its input has no batch axis"
    if kind.unbatched in sizes:
        return "", "its input has no batch axis"
    for value in (kind.gain, kind.bias):
        for shape in seen.shapes:
            if value is not None and shape[kind.axis] != value.numel():
                return "", f"it has {value.numel()} channels, which axis {kind.axis} of its input {list(shape)} has not"
    if kind.axis == 1 and len(sizes) == 1 and max(sizes) <= 5:
        return _SPATIAL[max(sizes)], ""
    if kind.axis == 1:
        return "", f"its input has {' or '.join(map(str, sorted(sizes)))} axes"
    if sizes == {2}:
        return "BC", ""
    if sizes == {3}:
        times_first = seen.axis == 1 or all(shape[0] != batch and shape[1] == batch for shape in seen.shapes)
        return ("TBC" if times_first else "BTC"), ""
    return "B…C", ""


def _over(kind: Kind, layout: str) -> str:
    """Letters of the axes that one set of statistics pools."""
    if not layout:
        return ""
    positions = "".join(letter for letter in layout if letter not in "BC")
    if kind.name in ("layer", "rms", "detached_layer"):
        return "C" + (positions if kind.axis == 1 else "")
    return _OVER.get(kind.name, "").replace("·", positions)


def trained(kind: Kind) -> tuple[str, ...]:
    """What differs from its initial value."""
    initial: tuple[tuple[str, Tensor | None, float], ...] = (
        ("gain", kind.gain, 1.0), ("bias", kind.bias, 0.0),
        ("statistics", kind.mean, 0.0), ("statistics", kind.var, 1.0),
    )  # fmt: skip
    changed = [name for name, value, at in initial if value is not None and bool((value.detach() != at).any())]
    return tuple(dict.fromkeys(changed))


def _without_wrappers(found: list[Found]) -> list[Found]:
    """Modules with a norm's name that only hold other norms are no sites."""
    paths = [one.site.path for one in found if one.kind is not None]
    return [
        one for one in found
        if one.kind is not None or not any(_within(path, one.site.path) for path in paths)
    ]  # fmt: skip


def _functions(seen: Watch, net: nn.Module, norms: list[str]) -> list[Found]:
    """Norms called as functions in modules that are no norms themselves."""
    found = []
    for (path, name), calls in sorted(seen.functions.items()):
        if path in norms or any(_within(path, norm) for norm in norms):
            continue
        why = "it is called as a function in forward: make it a module to replace it"
        site = NormSite(path, f"F.{name}", _NAMES.get(name, ""), calls=calls, obstacle=why)
        found.append(Found(site, net.get_submodule(path)))
    return found


_NAMES = {"batch_norm": "batch", "layer_norm": "layer", "group_norm": "group", "instance_norm": "instance",
          "rms_norm": "rms", "local_response_norm": "local_response"}  # fmt: skip
