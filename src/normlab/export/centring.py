"""Moves the centring of layer norms into the layers before them, so that RMS norm is left.

Layer norm subtracts the mean over the channels, which is linear. If everything that writes to its input has mean 0
over the channels, there is nothing to subtract: (x - μ) / √(σ² + eps) = x / √(mean(x²) + eps). A layer's output has
mean 0 if its weight's columns and its bias have; an embedding's if its vectors have. Centring these changes no result
if all that reads the values between is layer norms, which would subtract the mean anyway: arXiv:2605.14521, and for
residual streams Jiang et al. 2023, arXiv:2305.14858.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.fx import Node

from normlab.export.flow import Writer, operation, read_by, through, writer_at
from normlab.export.graph import Call, Graph, stack_of


@dataclass
class Stream:
    """The values that are centred together, with all that writes and reads them.

    writers  weights that write to them
    calls    layer norms that read them
    problem  why they can't be centred; None: they can
    """

    writers: list[Writer] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    problem: str | None = None

    @property
    def keys(self) -> set[str]:
        """What it must not share with another: norms and parameters."""
        written = {f"{name}:{w.start}:{w.stop}" for w in self.writers for name, _ in w.parameters}
        return written | {call.path for call in self.calls}


def streams(graph: Graph) -> Iterator[Stream]:
    """The streams of a graph; two that share a weight or a norm are one."""
    found: list[Stream] = []
    for call in graph.calls:
        if not call.centres or any(call in stream.calls for stream in found):
            continue
        new = _stream(graph, call)
        for old in [stream for stream in found if stream.keys & new.keys]:
            found.remove(old)
            new = Stream(old.writers + new.writers, old.calls + new.calls, old.problem or new.problem)
        found.append(new)
    for stream in found:
        stream.problem = stream.problem or _shared(graph, stream)
        yield stream


def _stream(graph: Graph, call: Call) -> Stream:
    stream, seen, left = Stream(), set[Node](), [(call.source, call.axis)]
    while left and stream.problem is None:
        node, axis = left.pop()
        if node in seen:
            continue
        seen.add(node)
        writer = writer_at(graph, node, axis)
        if writer is not None:
            stream.writers.append(writer)
        else:
            behind = [(s, _before(node, s, axis)) for s in read_by(node)]
            if not behind or any(a is None for _, a in behind):
                stream.problem = _unwritable(graph, node)
                break
            left += [(s, a) for s, a in behind if a is not None]
        calls = [c for c in graph.by_source[node] if c.centres and c.axis == axis]
        stream.calls += calls
        for user in node.users:
            if node not in read_by(user) or any(c.path in stack_of(user) for c in calls):
                continue
            ahead = through(user, node, axis)
            if ahead is None or user in graph.by_result:
                stream.problem = (
                    f"{graph.said(user)} ({operation(user) or 'the end'}) reads the same values, with their mean"
                )
                break
            left.append((user, ahead))
    if call not in stream.calls:
        stream.calls.append(call)
    if stream.problem is None and len({c.blocks for c in stream.calls}) > 1:
        stream.problem = "norms of different numbers of blocks read the same values"
    return stream


def _before(node: Node, source: Node, axis: int) -> int | None:
    """The axis of the channels in an input, if `axis` is theirs in the node's value."""
    rank = len(getattr(source.meta.get("val"), "shape", ()))
    return next((a for a in range(rank) if through(node, source, a) == axis), None)


def _unwritable(graph: Graph, node: Node) -> str:
    if node in graph.by_result:
        return f"{graph.by_result[node].path}, a norm itself, writes what it reads, and no weights could be centred"
    if node.op == "placeholder":
        return "it reads the network's input, and no weights could be centred"
    return f"{graph.said(node)} writes what it reads, in an operation ({operation(node)}) that no weights end in"


def _shared(graph: Graph, stream: Stream) -> str | None:
    """Why the weights can't be changed: something else uses them too."""
    covered = {call.path: sum(c.path == call.path for c in graph.calls) for call in stream.calls}
    for path, calls in covered.items():
        if sum(call.path == path for call in stream.calls) < calls:
            return "it is used in other places too"
    for writer in stream.writers:
        for name, _ in writer.parameters:
            if graph.shared(name):
                other = graph.shared(name)[0]
                return f"{name}, which would be centred, is {other} too: the layers share one weight, untie them first"
            own = {w.node for w in stream.writers if any(name == n for n, _ in w.parameters)}
            others = graph.uses(name) - own
            if others and writer.node.op != "placeholder":  # all that a parameter itself feeds is in the stream
                return f"{name}, which would be centred, is used by {graph.said(others.pop())} too"
    return None


@torch.no_grad()
def centre(model: nn.Module, stream: Stream) -> None:
    """Subtract the mean over the channels, in each block, from all weights that write to the stream, in place."""
    done: set[str] = set()
    for writer in stream.writers:
        for name, axis in writer.parameters:
            if f"{name}:{writer.start}" in done:
                continue
            done.add(f"{name}:{writer.start}")
            rows = model.get_parameter(name).narrow(axis, writer.start, writer.stop - writer.start)
            blocks = rows.double().unflatten(axis, (stream.calls[0].blocks, -1))
            rows.copy_((blocks - blocks.mean(axis + 1, keepdim=True)).flatten(axis, axis + 1))
