"""What a network computes, as a graph in which each call of a norm is one step."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from normlab.config.errors import InputError
from normlab.models.base import Model
from normlab.norms.base import Norm
from normlab.norms.layer import LayerNorm
from normlab.norms.layer_channel import LayerChannelNorm
from normlab.norms.none import NoNorm
from normlab.norms.rms import RMSNorm
from normlab.weights.parametrised import make_plain

_TORCH_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NORMS = (Norm, nn.LayerNorm, nn.RMSNorm, *_TORCH_BATCH)


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a norm.

    path    of its module
    norm    the module
    source  the value that it reads
    result  the value that it returns
    axis    of the channels, in both
    """

    path: str
    norm: nn.Module
    source: Node
    result: Node
    axis: int

    @property
    def centres(self) -> bool:
        """Does it subtract the mean over the channels, alone or in blocks, from each example and position?"""
        norm = self.norm
        if type(norm) is nn.LayerNorm:
            return len(norm.normalized_shape) == 1
        ours = type(norm) is LayerNorm and not norm.channels_first
        return ours or type(norm) is LayerChannelNorm

    @property
    def rescales(self) -> bool:
        """Does it only divide by the root mean square over the channels, alone or in blocks?"""
        norm = self.norm
        if type(norm) is nn.RMSNorm:
            return len(norm.normalized_shape) == 1 and norm.eps is not None
        return type(norm) is RMSNorm and not norm.channels_first

    @property
    def blocks(self) -> int:
        """Equal blocks of channels that are normalised separately."""
        return self.norm.parts if isinstance(self.norm, Norm) else 1

    @property
    def gain(self) -> Tensor | None:
        """Its gain, [C]."""
        found: Any = self.norm.gain if isinstance(self.norm, Norm) else self.norm.weight
        return found

    @property
    def bias(self) -> Tensor | None:
        """Its bias, [C]."""
        found: Any = getattr(self.norm, "bias", None)
        return found

    def affine(self) -> tuple[Tensor, Tensor] | None:
        """Scale and shift, float64 [C] each, if the norm is a fixed affine map in eval mode; otherwise None."""
        norm = self.norm
        if isinstance(norm, Norm):
            found = norm.eval_affine()
            return None if found is None else (found[0].detach().double(), found[1].detach().double())
        if not isinstance(norm, _TORCH_BATCH) or norm.running_mean is None or norm.running_var is None:
            return None
        scale = torch.rsqrt(norm.running_var.double() + norm.eps)
        scale = scale if norm.weight is None else scale * norm.weight.detach().double()
        shift = -norm.running_mean.double() * scale
        return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


class Graph:
    """The graph of a network in eval mode, for one batch without padding.

    Args:
        model: is not changed; its weights are plain parameters, see `plain_copy`.
        inputs: an example batch.

    Attributes:
        nodes: in order.
        calls: of norms, in order.
        odd: path → why a norm there can't be followed.

    Raises:
        InputError: torch.export can't take the network.
    """

    def __init__(self, model: Model, inputs: Tensor) -> None:
        self.model = model
        program = traced(model, (inputs,))
        self.nodes = list(program.graph.nodes)
        named = program.graph_signature.inputs_to_parameters
        self._names = {node: named[node.name] for node in self.nodes if node.op == "placeholder" and node.name in named}
        self._held = {*self._names} | {n for n in self.nodes if n.name in program.graph_signature.inputs_to_buffers}
        aliases: dict[int, list[str]] = defaultdict(list)
        for name, parameter in model.named_parameters(remove_duplicate=False):
            aliases[id(parameter)].append(name)
        self._aliases = {name: names for names in aliases.values() for name in names}
        self.odd: dict[str, str] = {}
        found, counted = list(self._calls()), _counted(model, inputs)
        apart = {path for path, count in counted.items() if count == sum(call.path == path for call in found)}
        self.odd |= {call.path: "its calls can't be told apart" for call in found if call.path not in apart}
        self.calls = [call for call in found if call.path in apart]
        self.by_source: dict[Node, list[Call]] = defaultdict(list)
        for call in self.calls:
            self.by_source[call.source].append(call)
        self.by_result = {call.result: call for call in self.calls}

    def parameter(self, node: Any) -> str | None:
        """The name of the parameter that a node is."""
        return self._names.get(node)

    def uses(self, name: str) -> set[Node]:
        """The nodes that read a parameter, by whichever of its names."""
        same = set(self._aliases[name])
        return {user for node, own in self._names.items() if own in same for user in node.users}

    def shared(self, name: str) -> list[str]:
        """Other names of the same parameter."""
        return [other for other in self._aliases[name] if other != name]

    def said(self, node: Node) -> str:
        """A node in words: the module that it belongs to, or the operation."""
        if node.op == "output":
            return "the network's output"
        if node.op == "placeholder":
            return self._names.get(node, "the network's input")
        path = module_of(node)
        return path or f"the operation {str(node.target).removeprefix('aten.').partition('.')[0]}"

    def _calls(self) -> Iterator[Call]:
        norms = {
            path: module
            for path, module in self.model.named_modules()
            if isinstance(module, _NORMS) and not isinstance(module, NoNorm)
        }
        steps = [node for node in self.nodes if node.op == "call_function"]
        for path, run in groupby(steps, lambda node: next((p for p in reversed(stack_of(node)) if p in norms), None)):
            if path is None:
                continue
            inside = list(run)
            members = set(inside)
            sources = {s for n in inside for s in n.all_input_nodes if s not in members and s not in self._held}
            results = [n for n in inside if any(user not in members for user in n.users)]
            if len(sources) != 1 or len(results) != 1:
                self.odd[path] = "it computes in steps that can't be told apart"
                continue
            (source,) = sources
            yield Call(path, norms[path], source, results[0], _axis(norms[path], source))


def _counted(model: Model, inputs: Tensor) -> Counter[str]:
    """How often each norm is called: two calls in a row look like one in a graph."""
    counts: Counter[str] = Counter()
    handles = [
        module.register_forward_hook(lambda *_, path=path: counts.update([path]))
        for path, module in model.named_modules()
        if isinstance(module, _NORMS)
    ]
    try:
        with torch.no_grad(), model.unfused():
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return counts


def traced(model: nn.Module, inputs: tuple[Tensor, ...], **options: Any) -> torch.export.ExportedProgram:
    """torch.export of a model in eval mode.

    Raises:
        InputError: it can't take the network.
    """
    try:
        with torch.no_grad():
            if isinstance(model, Model):
                with model.unfused():
                    return torch.export.export(model.eval(), inputs, **options)
            return torch.export.export(model.eval(), inputs, **options)
    except Exception as error:
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"torch.export can't take this network: {type(error).__name__}: {why[:200]}") from error


def plain_copy(model: Model) -> Model:
    """A copy in eval mode whose weights are plain parameters, also where they were functions of others."""
    copied = copy.deepcopy(model).eval()
    for module in list(copied.modules()):
        make_plain(module)
    return copied


def stack_of(node: Node) -> list[str]:
    """The paths of the modules in which a node is computed, from the outermost."""
    return [path for path, _ in node.meta.get("nn_module_stack", {}).values()]


def module_of(node: Node) -> str:
    """The path of the innermost of them; empty: the network itself."""
    return (stack_of(node) or [""])[-1]


def shape_of(node: Node) -> tuple[int, ...]:
    """The shape of a node's value; empty if it is not a tensor."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _axis(norm: nn.Module, source: Node) -> int:
    first = norm.channels_first if isinstance(norm, Norm) else isinstance(norm, _TORCH_BATCH)
    return 1 if first else len(shape_of(source)) - 1
