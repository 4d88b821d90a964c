"""One look: hooks on norms and layers for one training step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from normlab.diagnoses.observed import Look, Place, Site
from normlab.monitor.numbers import Measured, after, before, gradient, inputs_of, read, site_look, size_of
from normlab.monitor.places import Norm, layers_of, tracked_batches


@dataclass
class Signal:
    """Where a signal passes: the L2 norm of an output with `count` values, and later that of its gradient."""

    path: str
    size: Tensor
    count: int
    gradients: list[Tensor] = field(default_factory=list)


# a subclass with its own, such as ConvNeXt's for [B, C, H, W], may move the axes before it normalises
_LAST_AXES = (nn.LayerNorm.forward, nn.RMSNorm.forward)


class Looking:
    """Hooks on a network until the end of a step. No hook changes a value or draws a random number.

    Args:
        net: its layers are watched too, for the order and size of signals.
        norms: to watch.
        sites: by path; what their surroundings show is written there.
        whole: also layers, outputs and gradients; else only what the norms read, for a third of the time.
        rate: the highest learning rate of this step.
    """

    def __init__(
        self,
        net: nn.Module,
        norms: Iterable[Norm],
        sites: dict[str, Site],
        step: int,
        whole: bool = True,
        rate: float = math.nan,
    ) -> None:
        self.net, self.norms, self.sites, self.step, self.whole = net, list(norms), sites, step, whole
        self.rate = rate
        self.calls: dict[str, list[Measured]] = {}
        self.places: list[Signal] = []
        self.made: dict[str, tuple[int, torch.Size]] = {}  # where a norm's output lies
        self.latest: tuple[str, nn.Module, Tensor, int] | None = None  # layer before, with its output
        self.handles: list[Any] = []
        self.final: tuple[int, torch.Size] | None = None
        self.inputs: Any = None
        self.training = net.training
        self.ended: dict[str, int] | None = None
        self.spent = 0.0
        self.failed: Exception | None = None

    def attach(self, inputs: Any = None) -> None:
        """Before a forward pass."""
        if self.inputs is None and inputs is not None:
            self.inputs = inputs_of(inputs)
        self.ended = None
        for norm in self.norms:
            enter = self._safely(partial(self._enter, norm))
            self.handles.append(norm.module.register_forward_pre_hook(enter, with_kwargs=True))
            if self.whole:
                leave = self._safely(partial(self._leave, norm))
                self.handles.append(norm.module.register_forward_hook(leave))
        for path, layer in layers_of(self.net) if self.whole else ():
            self.handles.append(layer.register_forward_hook(self._safely(partial(self._layer, path))))

    def detach(self) -> None:
        """After a forward pass, before the backward one, which may repeat parts of it."""
        for handle in self.handles:
            handle.remove()
        if self.handles and self.ended is None:
            self.ended = {norm.path: tracked_batches(norm) for norm in self.norms}
        self.handles = []

    def output(self, y: Any) -> None:
        """The output of the network, or of a part of it that a later part replaces; a norm may have made it."""
        y = y[0] if isinstance(y, tuple) and y else y
        if isinstance(y, Tensor):
            self.final = (y.data_ptr(), y.shape)

    def close(self) -> Look:
        """After the backward pass; only now are values read from the device."""
        self.detach()
        calls = [call for each in self.calls.values() for call in each]
        inputs = () if self.inputs is None else self.inputs[:2]
        signals = [value for place in self.places for value in (place.size, *place.gradients[:1])]
        values = iter(read([*(value for call in calls for value in call.waiting.values()), *signals, *inputs]))
        measured = {id(call): {name: next(values) for name in call.waiting} for call in calls}
        found = []
        for norm in self.norms:
            if seen := self.calls.get(norm.path):
                if self.final is not None and self.made.get(norm.path) == self.final:
                    self.sites[norm.path].last = True
                late = tracked_batches(norm) - self.ended[norm.path] if self.ended else 0
                found.append(site_look([(call, measured[id(call)]) for call in seen], late))
        places = [
            Place(
                place.path,
                next(values)[0] / max(1, place.count) ** 0.5,
                next(values)[0] if place.gradients else float("nan"),
            )
            for place in self.places
        ]
        means = None if self.inputs is None else (tuple(next(values)), tuple(next(values)), self.inputs[2])
        return Look(self.step, tuple(found), tuple(places), means, training=self.training, rate=self.rate)

    def _safely(self, hook: Any) -> Any:
        """The hook in place of which an error is kept, and with its time."""

        def called(*arguments: Any) -> None:
            began = perf_counter()
            try:
                if self.failed is None:
                    hook(*arguments)  # which detaches what it reads: leaving and entering no_grad would cost more
            except Exception as error:  # a monitor never stops a training
                self.failed = error
            self.spent += perf_counter() - began

        return called

    def _enter(self, norm: Norm, _: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        tensors = [value for value in (*arguments, *named.values()) if isinstance(value, Tensor)]
        if not tensors or not tensors[0].is_floating_point():
            return
        x, calls = tensors[0], self.calls.setdefault(norm.path, [])
        calls.append(before(norm, x, masked=len(tensors) > 1, again=bool(calls)))
        if self.latest is not None:
            self._surroundings(norm, x)

    def _surroundings(self, norm: Norm, x: Tensor) -> None:
        assert self.latest is not None
        path, layer, y, version = self.latest
        channel = 1 if isinstance(layer, _ConvNd) else -1
        site = self.sites[norm.path]
        direct = x.data_ptr() == y.data_ptr() and x.shape == y.shape and x._version == version  # not changed in place
        if direct and norm.kind.name in ("batch", "instance") and norm.module.training and norm.kind.axis in (
            channel, channel % x.ndim
        ) and getattr(layer, "bias", None) is not None:  # fmt: skip
            site.cancels = path
        if isinstance(norm.module, nn.LayerNorm | nn.RMSNorm) and type(norm.module).forward in _LAST_AXES:
            axes = len(norm.module.normalized_shape)
            turned = x.ndim > 2 and x.shape == y.transpose(-1, -2).shape and x.shape != y.shape
            if x.shape == y.shape and channel == 1 and x.ndim > 2 and axes < x.ndim - 1 and not _turned(x):
                site.crosses = f"{axes} of {x.ndim - 2} axes of positions, of a convolution's output {tuple(x.shape)}"
            elif channel == -1 and turned and axes == 1:
                site.crosses = f"positions, of a layer's output with features along axis {x.ndim - 2}, {tuple(x.shape)}"

    def _leave(self, norm: Norm, _: nn.Module, _arguments: Any, y: Any) -> None:
        if not isinstance(y, Tensor) or norm.path not in self.calls:
            return
        seen, size = self.calls[norm.path][-1], size_of(y)
        if len(self.calls[norm.path]) == 1:
            after(seen, y, size)
            self.made[norm.path] = (y.data_ptr(), y.shape)
        self._keep(Signal(norm.path, size, y.numel()), y, seen)

    def _layer(self, path: str, layer: nn.Module, _arguments: Any, y: Any) -> None:
        if isinstance(y, Tensor):
            self.latest = (path, layer, y.detach(), y._version)
            self._keep(Signal(path, size_of(y), y.numel()), y, None)

    def _keep(self, signal: Signal, y: Tensor, seen: Measured | None) -> None:
        self.places.append(signal)
        if y.requires_grad:

            def hook(g: Tensor) -> None:
                signal.gradients.append(size_of(g))
                if seen is not None:
                    gradient(seen, g)

            y.register_hook(self._safely(hook))


def _turned(x: Tensor) -> bool:
    """Whether its last axis is not the one along which memory is contiguous, as after a transpose."""
    return x.stride(-1) != 1
