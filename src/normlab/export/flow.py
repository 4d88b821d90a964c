"""How channels pass through the operations of a graph: which axis they are, and which weights write or read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from normlab.export.graph import Graph, shape_of

_SAME = ("dropout", "clone", "contiguous", "detach", "alias", "neg")
_SCALED = ("mul", "div")
_SUMS = ("add", "sub")
_RESHAPED = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as", "_unsafe_view")
_TURNED = ("transpose", "permute", "movedim")
_SHAPES = ("zeros_like", "ones_like", "new_zeros", "new_ones", "_assert_tensor_metadata")


def operation(node: Node) -> str:
    """The name of a node's operation, such as `linear`."""
    return str(node.target).removeprefix("aten.").partition(".")[0] if node.op == "call_function" else ""


def scaled_by(node: Node) -> float | None:
    """The number by which a node multiplies its only input; None: it has several, or does something else."""
    name = operation(node)
    if name in _SCALED and not isinstance(node.args[1], Node):
        number = float(node.args[1])  # type: ignore[arg-type]
        return number if name == "mul" else 1 / number
    if name == "neg":
        return -1.0
    return 1.0 if name in (*_SAME, *_RESHAPED, *_TURNED, "to", "slice", "select", "expand", "mean") else None


def read_by(node: Node) -> list[Node]:
    """The inputs of which a node reads the values, not only the shape."""
    name = operation(node)
    if name in _SHAPES:
        return []
    if name == "view_as":
        return [node.args[0]] if isinstance(node.args[0], Node) else []
    return node.all_input_nodes


def pools(node: Node) -> bool:
    """Does a node average over positions, of which some may be padding?"""
    return operation(node) == "mean"


def through(node: Node, source: Node, axis: int) -> int | None:
    """The axis of the channels in a node's value, if `axis` is theirs in `source`, one of its inputs.

    None unless the node is linear in all of its inputs together, treats all channels alike and keeps them apart. So
    what has mean 0 over the channels in every input has it in the value.
    """
    name, old, new = operation(node), shape_of(source), shape_of(node)
    if not old or not new or not 0 <= axis < len(old):
        return None
    channels = old[axis]
    cast = name == "to" and node.meta["val"].dtype == source.meta["val"].dtype
    if name in _SAME or cast or (name in _SCALED and scaled_by(node) is not None):
        found: int | None = axis
    elif name in _SUMS:
        both = all(isinstance(argument, Node) for argument in node.args[:2])
        found = axis + len(new) - len(old) if both else None
    elif name == "expand":
        found = axis + len(new) - len(old)
    elif name in _RESHAPED:
        behind = math.prod(old[axis + 1 :])
        found = next((j for j, n in enumerate(new) if n == channels and math.prod(new[j + 1 :]) == behind), None)
    elif name in _TURNED:
        turned = node.target(torch.empty([2 + i for i in range(len(old))], device="meta"), *node.args[1:])  # type: ignore[operator]
        found = list(turned.shape).index(2 + axis)
    elif name == "slice":
        found = axis if _dims(node, 1, 0, len(old)) != [axis] else None
    elif name == "select":
        (dim,) = _dims(node, 1, 0, len(old))
        found = None if dim == axis else axis - (dim < axis)
    elif name == "cat":
        found = axis if _dims(node, 1, 0, len(old)) != [axis] else None
    elif name == "mean" and len(node.args) > 1 and node.args[1] is not None:
        dims = _dims(node, 1, 0, len(old))
        kept = len(new) == len(old)
        found = None if axis in dims else axis - (0 if kept else sum(dim < axis for dim in dims))
    else:
        found = None
    return found if found is not None and 0 <= found < len(new) and new[found] == channels else None


def _dims(node: Node, position: int, default: int, rank: int) -> list[int]:
    given: Any = node.args[position] if len(node.args) > position else node.kwargs.get("dim", default)
    return [int(dim) % rank for dim in (given if isinstance(given, list | tuple) else [given])]


@dataclass(frozen=True)
class Layer:
    """A node that multiplies by a weight.

    node     the node
    weight   the parameter's name
    bias     likewise; None: it has none
    outputs  axis of the weight that is the output's channels
    inputs   axis of the weight that is the input's channels; None: it reads indices, or positions too
    read     the node that it reads
    """

    node: Node
    weight: str
    bias: str | None
    outputs: int
    inputs: int | None
    read: Node | None = None


def layer_at(graph: Graph, node: Node) -> Layer | None:
    """The layer that a node is, if it is a linear layer, an ungrouped convolution or an embedding."""
    name, arguments = operation(node), node.args
    if name == "linear":
        read, weight, bias, outputs, inputs = arguments[0], arguments[1], _or_none(arguments, 2), 0, 1
    elif name == "addmm" and not node.kwargs:
        read, weight, bias, outputs, inputs = arguments[1], arguments[2], arguments[0], 1, 0
    elif name in ("conv1d", "conv2d", "conv3d") and (len(arguments) < 7 or arguments[6] == 1):
        read, weight, bias, outputs, inputs = arguments[0], arguments[1], _or_none(arguments, 2), 0, None
    elif name == "embedding":
        read, weight, bias, outputs, inputs = None, arguments[0], None, 1, None
    else:
        return None
    of_weight, of_bias = graph.parameter(weight), graph.parameter(bias)
    if of_weight is None or (bias is not None and of_bias is None):
        return None  # computed, not stored
    value = read if isinstance(read, Node) else None
    return Layer(node, of_weight, of_bias, outputs=outputs, inputs=inputs, read=value)


def _or_none(arguments: Any, i: int) -> Any:
    return arguments[i] if len(arguments) > i else None


def channels_written(node: Node) -> int:
    """The axis of a layer's output channels in its value."""
    return 1 if operation(node).startswith("conv") else len(shape_of(node)) - 1


@dataclass(frozen=True)
class Writer:
    """Weights that write some channels of a value: rows `start` to `stop` of a layer, or a parameter itself.

    node       the layer's, or the parameter's
    parameters (name, axis of the channels)
    """

    node: Node
    parameters: tuple[tuple[str, int], ...]
    start: int
    stop: int


def writer_at(graph: Graph, node: Node, axis: int) -> Writer | None:
    """The weights that write a value whose channels are `axis`."""
    own = graph.parameter(node)
    if own is not None:
        return Writer(node, ((own, axis),), 0, shape_of(node)[axis])
    cut = _cut(node, axis)
    base, start, stop = cut or (node, 0, shape_of(node)[axis])
    layer = layer_at(graph, base)
    if layer is None or axis != channels_written(base):
        return None
    written = [(layer.weight, layer.outputs)] + ([(layer.bias, 0)] if layer.bias else [])
    return Writer(base, tuple(written), start, stop)


def _cut(node: Node, axis: int) -> tuple[Node, int, int] | None:
    """The value that is cut into pieces along its channels, of which this is one, and where the piece starts and ends.

    None unless nothing else reads that value.
    """
    if "getitem" not in str(node.target):
        return None
    pieces, number = node.args
    if not isinstance(pieces, Node) or operation(pieces) not in ("chunk", "split", "split_with_sizes"):
        return None
    whole = pieces.args[0]
    dim = pieces.args[2] if len(pieces.args) > 2 else pieces.kwargs.get("dim", 0)
    if not isinstance(whole, Node) or int(dim) % len(shape_of(whole)) != axis or set(whole.users) != {pieces}:  # type: ignore[arg-type]
        return None
    sizes = [part.shape[axis] for part in pieces.meta["val"] if isinstance(part, Tensor)]
    start = sum(sizes[: int(number)])  # type: ignore[arg-type]
    return whole, start, start + sizes[int(number)]  # type: ignore[arg-type]
