"""Follows a training step by step, and looks at some of its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, distributed, nn

from normlab.diagnoses.observed import Observed
from normlab.monitor.look import Looking
from normlab.monitor.places import LAYERS, norms_of, site_of
from normlab.monitor.schedule import Schedule
from normlab.sites.forward import unwrapped


class Recorder:
    """What a network's norms do in a training.

    Args:
        net: the network, or a LightningModule with it.
        schedule: of the looks.
        say: is given what a user should know, once.
    """

    def __init__(self, net: nn.Module, schedule: Schedule, say: Callable[[str], None]) -> None:
        self.net, self.schedule, self.say = unwrapped(net), schedule, say
        self.norms = norms_of(self.net)
        self.seen = Observed({norm.path: site_of(norm) for norm in self.norms})
        self.look: Looking | None = None
        self.evaluation: Looking | None = None
        self._optimisers: list[torch.optim.Optimizer] = []
        self._seen_at, self._passes = -1, 0  # evaluated passes since that step
        if distributed.is_available() and distributed.is_initialized():
            self.seen.processes = distributed.get_world_size()
        self.compiled = any(_compiled(module) for module in net.modules())
        if not self.norms:
            say(f"{type(self.net).__name__} has no norms: only its layers' activations and gradients are watched")
        if self.compiled:
            say("inside a compiled network only modes and running statistics are watched: monitor it uncompiled")

    def begin(self, inputs: Any = None) -> None:
        """Before the forward pass of the next step."""
        self.seen.steps += 1
        if not self.compiled and self.schedule.due(self.seen.steps):
            began = perf_counter()
            self._follow()
            whole = self.schedule.whole(self.seen.steps)
            self.look = Looking(self.net, self.norms, self.seen.sites, self.seen.steps, whole, rate=self._rate())
            self.look.attach(inputs)
            self.schedule.spent += perf_counter() - began

    def end(self) -> bool:
        """After the backward pass; whether there was a look."""
        look, self.look = self.look, None
        if look is None:
            return False
        began = perf_counter()
        found = look.close()
        self.schedule.spent += perf_counter() - began + look.spent
        if look.failed is not None:
            raise look.failed
        self.seen.add(found)
        return True

    def decays(self, optimisers: Iterable[torch.optim.Optimizer]) -> None:
        """Which gains an optimiser shrinks."""
        self._optimisers = list(optimisers)
        decay = {
            id(value): float(group.get("weight_decay") or 0)
            for optimiser in self._optimisers for group in optimiser.param_groups for value in group["params"]
        }  # fmt: skip
        for norm in self.norms:
            self.seen.sites[norm.path].decay = max((decay.get(id(v), 0.0) for v in norm.affine[:1]), default=0.0)

    def _rate(self) -> float:
        """The highest learning rate; NaN if none is known, or if reading it would wait for the device."""
        rates = [group.get("lr") for optimiser in self._optimisers for group in optimiser.param_groups]
        return max((float(rate) for rate in rates if isinstance(rate, int | float)), default=math.nan)

    def _follow(self) -> None:
        """Norms may have been replaced since: those that are no part of the network any more say nothing about it."""
        if all(_at(self.net, norm.path) is norm.module for norm in self.norms):
            return
        self.say(f"the network's norms were replaced before step {self.seen.steps}: what was seen earlier is dropped")
        self.norms = norms_of(self.net)
        sites = {norm.path: site_of(norm) for norm in self.norms}
        self.seen = Observed(sites, steps=self.seen.steps, processes=self.seen.processes)
        self.decays(self._optimisers)

    def evaluates(self) -> None:
        """Before a forward pass for evaluation: look at some of them, the first two of each evaluation among them."""
        if self._seen_at != self.seen.steps:
            self._seen_at, self._passes = self.seen.steps, 0
        self._passes += 1
        if self.compiled or not self.schedule.due_in_evaluation(self._passes):
            return
        self.evaluation = Looking(self.net, self.norms, self.seen.sites, self.seen.steps, whole=False)
        self.evaluation.attach()

    def evaluated(self) -> None:
        """After it."""
        look, self.evaluation = self.evaluation, None
        if look is None:
            return
        for site in look.close().sites:
            self.seen.evaluated.setdefault(site.path, []).append(site)
        self.schedule.spent += look.spent
        if look.failed is not None:
            raise look.failed

    def modes(self) -> None:
        """During a forward pass for evaluation: which norms are in training mode."""
        self._follow()
        self.seen.evaluations += 1
        for norm in self.norms:
            if norm.kind.name == "batch" and norm.live():
                self.seen.unset[norm.path] = self.seen.unset.get(norm.path, 0) + 1

    def statistics(self) -> dict[str, Tensor]:
        """Copies of the running means, to compare with in `leaked`."""
        found = {norm.path: norm.statistics for norm in self.norms}
        return {path: values[0].clone() for path, values in found.items() if values is not None}

    def leaked(self, earlier: dict[str, Tensor]) -> None:
        """After an evaluation: which running statistics it has changed."""
        for path, mean in self.statistics().items():
            if path in earlier and not torch.equal(mean, earlier[path].to(mean)):
                self.seen.leaked[path] = self.seen.leaked.get(path, 0) + 1

    def parts(self) -> list[nn.Module]:
        """Children that are networks, as a LightningModule has them; one of them makes the output."""
        norms = {id(norm.module) for norm in self.norms}
        return [
            child for child in self.net.children()
            if id(child) not in norms and any(isinstance(m, LAYERS) or id(m) in norms for m in child.modules())
        ]  # fmt: skip


def _at(net: nn.Module, path: str) -> nn.Module | None:
    try:
        return net.get_submodule(path)
    except AttributeError:
        return None


def _compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _nothing(*_: Any) -> None:
    """What is called in a copy of the network."""


class _Hook:
    """A hook that copies and pickled networks, such as a moving average of the weights, have without effect."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def __call__(self, *call: Any) -> None:
        self.function(*call)

    def __reduce__(self) -> tuple[Any, ...]:
        return _Hook, (_nothing,)


class Loop:
    """Hooks on a network that find the steps of a hand-written loop by themselves.

    A forward pass with gradients after a change of the parameters begins a step; one without gradients is an
    evaluation.
    """

    def __init__(self, recorder: Recorder, net: nn.Module, safely: Callable[..., Any], ended: Any) -> None:
        self.recorder, self.ended = recorder, ended
        trained = [value for value in net.parameters() if value.requires_grad]
        self.parameters = trained[:: -(-len(trained) // 8) or 1]  # an optimiser changes all of them
        self.version, self.passes = -1, 0
        before, after = safely(self._before), safely(self._after)
        self.handles = [
            net.register_forward_pre_hook(_Hook(lambda *call: before(*call[1:])), with_kwargs=True),
            net.register_forward_hook(_Hook(lambda *call: after(call[2])), always_call=True),
        ]

    def _before(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            self.recorder.modes()
            self.recorder.evaluates()
            return
        version = sum(value._version for value in self.parameters)
        inputs = (*arguments, *named.values())
        if version != self.version:
            self.version, self.passes = version, 1
            self.finish()
            self.recorder.begin(inputs)
        elif self.recorder.look is not None and self.passes == 1:
            self.passes += 1  # with the same weights: a second pass, or an accumulated batch
            self.recorder.look.attach()
        else:
            self.finish()  # what further passes update is no part of the look

    def _after(self, y: Any) -> None:
        self.recorder.evaluated()
        if self.recorder.look is not None and self.recorder.look.handles:
            self.recorder.look.output(y)
            self.recorder.look.detach()

    def finish(self) -> None:
        """Close the look of the step before, whose backward pass is over."""
        if self.recorder.end():
            self.ended()

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()
        self.finish()
