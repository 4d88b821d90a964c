"""Which modules an example's forward pass calls, with what, and which norms are called as functions."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import UninitializedBuffer, is_lazy
from torch.overrides import TorchFunctionMode

from normlab.sites.forward import forward, one_more, restored

_FUNCTIONS = {
    getattr(place, name): name
    for place in (functional, torch)
    for name in ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm")
    if hasattr(place, name)
}


@dataclass
class Seen:
    """The calls of one module.

    shapes   of its input in each call
    plain    whether each call took one floating-point tensor and returned one of its shape
    keyword  whether a call named its argument
    axis     of the examples, where shapes alone can't tell because time steps are as many
    """

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    plain: bool = True
    keyword: bool = False
    dtype: torch.dtype = torch.float32
    device: torch.device | None = None
    axis: int | None = None


@dataclass
class Watch:
    """What one forward pass calls.

    calls      module's path → its calls
    functions  (path of the module whose forward calls it, name of the function) → number of calls
    lazy       the network had parameters without values, so a copy of it ran
    """

    calls: dict[str, Seen] = field(default_factory=dict)
    functions: Counter[tuple[str, str]] = field(default_factory=Counter)
    lazy: nn.Module | None = None


class _Functions(TorchFunctionMode):
    """Counts norms that are called as functions, by the innermost module that does."""

    def __init__(self, found: Counter[tuple[str, str]], inside: list[str]) -> None:
        super().__init__()
        self.found, self.inside = found, inside

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := _FUNCTIONS.get(func)) is not None:
            self.found[(self.inside[-1] if self.inside else "", name)] += 1
        return func(*args, **(kwargs or {}))


def watch(net: nn.Module, example: Any) -> Watch:
    """One forward pass in eval mode; a second one in training mode may reach modules that the first one doesn't."""
    lazy = any(is_lazy(p) for p in (*net.parameters(), *net.buffers()))
    runs = _copied(net) if lazy else net
    found = _pass(runs, example, training=False)
    reached = {path for path, module in runs.named_modules() if not list(module.children())}
    if not reached <= set(found.calls):
        try:
            more = _pass(runs, example, training=True)
        except Exception:  # a network may need other inputs or more examples in training
            more = Watch()
        found.calls |= {path: seen for path, seen in more.calls.items() if path not in found.calls}
        found.functions |= more.functions
    found.lazy = runs if lazy else None
    return found


def settle(found: Watch, net: nn.Module, example: Any, batch: int | None) -> None:
    """Where there are as many time steps as examples, a pass with one example more shows which axis is which."""
    square = [seen for seen in found.calls.values() if any(shape[:2] == (batch, batch) for shape in seen.shapes)]
    if not square or batch is None or batch < 2 or (longer := one_more(example, batch)) is None:
        return
    try:
        more = watch(net, longer)
    except Exception:  # a network may take one number of examples only
        return
    for path, seen in found.calls.items():
        shapes = more.calls[path].shapes if path in more.calls else []
        axes = {axis for shape in shapes for axis in (0, 1) if shape[axis : axis + 1] == (batch + 1,)}
        seen.axis = axes.pop() if len(axes) == 1 else None


def _copied(net: nn.Module) -> nn.Module:
    empty = {id(b): UninitializedBuffer() for b in net.buffers() if is_lazy(b)}  # has no copy of its own
    return copy.deepcopy(net, empty)


def _pass(net: nn.Module, example: Any, training: bool) -> Watch:
    found, inside = Watch(), list[str]()
    with restored(net), _watching(net, found.calls, inside), _Functions(found.functions, inside):
        net.train(training)
        forward(net, example)
    return found


@contextmanager
def _watching(net: nn.Module, calls: dict[str, Seen], inside: list[str]) -> Iterator[None]:
    handles = []
    for path, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # has no hooks with arguments
        enter, leave = partial(_enter, path, inside), partial(_leave, path, inside, calls)
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(path: str, inside: list[str], _: nn.Module, _arguments: Any) -> None:
    inside.append(path)


def _leave(path: str, inside: list[str], calls: dict[str, Seen], _: nn.Module, *call: Any) -> None:
    inside.pop()
    arguments, named, output = call
    tensors = [value for value in (*arguments, *named.values()) if isinstance(value, Tensor)]
    others = [value for value in (*arguments, *named.values()) if not isinstance(value, Tensor) and value is not None]
    seen = calls.setdefault(path, Seen())
    seen.keyword |= not arguments
    if len(tensors) != 1 or others or not isinstance(output, Tensor) or not tensors[0].is_floating_point():
        seen.plain = False
        seen.shapes.append(tuple(tensors[0].shape) if tensors else ())
        return
    x = tensors[0]
    seen.plain &= output.shape == x.shape
    seen.shapes.append(tuple(x.shape))
    seen.dtype, seen.device = x.dtype, x.device
