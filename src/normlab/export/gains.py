"""Moves what norms do to each channel, a gain and a bias, into the linear layers before or after them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normlab.export.flow import Layer, channels_written, layer_at, operation, pools, read_by, scaled_by, through
from normlab.export.graph import Call, Graph, stack_of

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)  # to which a bias can be added


@dataclass(frozen=True)
class Reader:
    """A linear layer that reads a norm's output, multiplied by `factor` and, if `pooled`, averaged on the way."""

    layer: Layer
    factor: float
    pooled: bool


def readers(graph: Graph, calls: Iterable[Call]) -> list[Reader] | str:
    """The layers that read the outputs of a norm's calls; or why what these read can't be theirs to scale."""
    found: list[Reader] = []
    for call in calls:
        left = [(call.result, call.axis, 1.0, False)]
        while left:
            node, axis, factor, pooled = left.pop()
            for user in [user for user in node.users if node in read_by(user)]:
                layer = layer_at(graph, user)
                if layer is not None and layer.inputs is not None and layer.read is node:
                    if axis != len(node.meta["val"].shape) - 1:
                        return f"{graph.said(user)} reads another axis"
                    found.append(Reader(layer, factor, pooled))
                    continue
                ahead, times = through(user, node, axis), scaled_by(user)
                if ahead is None or times is None or user in graph.by_result or user in graph.by_source:
                    return f"{graph.said(user)} reads it in an operation ({operation(user)}) that is no linear layer"
                left.append((user, ahead, factor * times, pooled or pools(user)))
    return found or "nothing reads it"


def forwards(graph: Graph, calls: list[Call], shifted: bool, padded: bool) -> list[Reader] | str:
    """The layers after a norm that can take its gain and bias; or why they can't.

    Args:
        shifted: there is a bias.
        padded: sequences may have padding.
    """
    found = readers(graph, calls)
    if isinstance(found, str):
        return found
    own = {reader.layer.node for reader in found}
    for reader in found:
        for name in (reader.layer.weight, *([reader.layer.bias] if shifted and reader.layer.bias else [])):
            if graph.shared(name):
                return f"{name} is {graph.shared(name)[0]} too"
            if graph.uses(name) - own:
                return f"{name} is used in other places too"
        if shifted and reader.pooled and padded:
            return "its bias would be added after the mean over real steps, which is 0 for a sequence without any"
        if shifted and reader.layer.bias is None and not _takes_bias(graph, reader.layer):
            return f"{graph.said(reader.layer.node)} has no bias to take the norm's"
    factors: dict[str, set[float]] = {}
    for reader in found:
        factors.setdefault(reader.layer.weight, set()).add(reader.factor)
    if shifted and any(len(several) > 1 for several in factors.values()):
        return "a layer reads it at different scales"
    return found


def _takes_bias(graph: Graph, layer: Layer) -> bool:
    owner, _, name = layer.weight.rpartition(".")
    return name == "weight" and type(graph.model.get_submodule(owner)) in _LAYERS


@torch.no_grad()
def scale_inputs(model: nn.Module, found: list[Reader], gain: Tensor | None, bias: Tensor | None) -> None:
    """Let the layers compute W (gain · x + bias) + b for what was W x + b, in place.

    Args:
        gain, bias: float64 [C]; None: 1, and 0.
    """
    done: set[str] = set()
    for reader in found:
        layer = reader.layer
        if layer.weight in done:
            continue
        done.add(layer.weight)
        assert layer.inputs is not None
        weight = model.get_parameter(layer.weight)
        exact = weight.double()
        if bias is not None:
            added = reader.factor * (exact @ bias if layer.inputs == 1 else bias @ exact)
            if layer.bias is None:
                owner = model.get_submodule(layer.weight.rpartition(".")[0])
                owner.register_parameter("bias", nn.Parameter(added.to(weight.dtype)))
            else:
                held = model.get_parameter(layer.bias)
                held.copy_(held.double() + added)
        if gain is not None:
            weight.copy_(exact * (gain if layer.inputs == 1 else gain[:, None]))


def backwards(graph: Graph, call: Call) -> Layer | str:
    """The layer before an affine norm that can take it over; or why none can."""
    layer = layer_at(graph, call.source)
    if layer is None or channels_written(call.source) != call.axis:
        return f"{graph.said(call.source)} writes what it reads, and it is no linear layer or convolution"
    if sum(other.path == call.path for other in graph.calls) > 1:
        return "it is used in several places"
    others = [user for user in call.source.users if call.path not in stack_of(user)]
    if others:
        return f"{graph.said(others[0])} reads the same values"
    for name in (layer.weight, *([layer.bias] if layer.bias else [])):
        if graph.shared(name) or graph.uses(name) != {layer.node}:
            return f"{name} is used in other places too"
    if layer.bias is None and not _takes_bias(graph, layer):
        return f"{layer.weight} has no bias to take the norm's"
    return layer


@torch.no_grad()
def scale_outputs(model: nn.Module, layer: Layer, scale: Tensor, shift: Tensor) -> None:
    """Let a layer compute scale · (W x + b) + shift for what was W x + b, in place."""
    weight = model.get_parameter(layer.weight)
    along = [1] * weight.dim()
    along[layer.outputs] = -1
    weight.copy_(weight.double() * scale.view(along))
    if layer.bias is None:
        owner = model.get_submodule(layer.weight.rpartition(".")[0])
        owner.register_parameter("bias", nn.Parameter(shift.to(weight.dtype)))
    else:
        held = model.get_parameter(layer.bias)
        held.copy_(held.double() * scale + shift)
