"""Folds a network's norms into the layers around them, as far as that is exact, and says what it left and why."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from torch import Tensor, nn

from normlab.config.errors import InputError
from normlab.export.centring import centre, streams
from normlab.export.gains import Reader, backwards, forwards, scale_inputs, scale_outputs
from normlab.export.graph import Call, Graph, plain_copy
from normlab.export.plain import Folded, PlainNorm
from normlab.fused import cell
from normlab.models.base import Model
from normlab.models.lstm import LSTMCell
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm
from normlab.norms.rms import RMSNorm

RECURRENT_STEPS = 3  # of the graph of a recurrence: the same weights and norms serve each further step


@dataclass(frozen=True)
class Moved:
    """A part of a norm that other layers now compute: its centring, its gain (and bias), or all of it."""

    what: str
    into: tuple[str, ...]

    def __str__(self) -> str:
        named = self.into if len(self.into) < 4 else (*self.into[:2], f"{len(self.into) - 2} more")
        return f"{self.what} moved into {' and '.join((', '.join(named[:-1]), named[-1]) if named[1:] else named)}"


@dataclass
class Stripped:
    """A network for inference, and what became of each of its norms.

    model  in eval mode
    done   path → what was folded
    left   path → what was not folded, and why
    """

    model: Model
    done: dict[str, list[Moved]] = field(default_factory=lambda: defaultdict(list))
    left: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def strip(model: Model, inputs: Tensor, *, padded: bool) -> Stripped:
    """A copy of the model with its norms folded as far as that is exact.

    A norm that is a fixed affine map per channel in eval mode (batch norm) moves into the linear layer or convolution
    before it, or else into the linear layers after it, and is gone. A layer norm's centring moves into the layers
    before it, so that RMS norm is left. Gain and bias of layer and RMS norm move into the linear layers after it. All
    of it is the same function up to rounding, for real steps: outputs at padding, which nothing reads, may differ.

    Args:
        model: is not changed.
        inputs: an example batch of at least two examples.
        padded: sequences may have padding.

    Raises:
        InputError: torch.export can't take the model, or a norm takes its statistics from the evaluated batch.
    """
    check_fixed(model)
    found = Stripped(plain_copy(model))
    if model.recurrent:
        inputs = inputs[:, :RECURRENT_STEPS]
    graph = Graph(found.model, inputs)
    if _fold_affine(graph, found, padded):
        graph = Graph(found.model, inputs)  # what was behind a norm is now next to what was before it
    for path, why in graph.odd.items():
        found.left[path].append(why)
    loops = _compiled_loops(found.model)
    centred = _centre(graph, found, loops)
    moved = _move_gains(graph, found, padded)
    for path in centred | moved:
        norm = found.model.get_submodule(path)
        call = next(call for call in graph.calls if call.path == path)
        compiled = path in centred - moved and any(path in paths for paths in loops)
        rest = _rest(norm, call, centred=path in centred, bare=path in moved, compiled=compiled)
        found.model.set_submodule(path, rest)
    _rebuild_kernels(found.model)
    known = {call.path for call in graph.calls} | {*found.done} | {*found.left}
    for path, module in found.model.named_modules():
        if isinstance(module, Norm) and not isinstance(module, NoNorm) and path not in known:
            found.left[path].append("it is not called")
    found.model.eval()
    return found


def check_fixed(model: nn.Module) -> None:
    """Check that no batch norm takes its statistics from the batch that it is given in eval mode.

    Raises:
        InputError: one does, so an answer would depend on what else is asked at the same time.
    """
    for path, module in model.named_modules():
        ours = isinstance(module, BatchNorm) and module.evaluation == "batch"
        theirs = isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
        if ours or theirs:
            how = "norm.evaluation=running" if ours else "track_running_stats=True"
            raise InputError(
                f"{path} takes its statistics from the evaluated batch, so an answer would depend on the other "
                f"examples of its batch, and nothing fixed can be exported: train with {how}"
            )


def _fold_affine(graph: Graph, found: Stripped, padded: bool) -> bool:
    """Fold all norms that are affine maps; those that can't be stay, with the reason. Whether any was folded."""
    by_path: dict[str, list[Call]] = defaultdict(list)
    for call in graph.calls:
        by_path[call.path].append(call)
    for path, calls in by_path.items():
        affine = calls[0].affine()
        if affine is None:
            if not (calls[0].centres or calls[0].rescales):
                found.left[path].append(_unknown(calls[0]))
            continue
        scale, shift = affine
        layer = backwards(graph, calls[0])
        if not isinstance(layer, str):
            scale_outputs(found.model, layer, scale, shift)
            found.done[path].append(Moved("all of it", (layer.weight.rpartition(".")[0],)))
        else:
            after = forwards(graph, calls, bool(shift.any()), padded)
            if isinstance(after, str):
                found.left[path].append(f"before it: {layer}; after it: {after}")
                continue
            scale_inputs(found.model, after, scale, shift)
            found.done[path].append(Moved("all of it", _named(after)))
        found.model.set_submodule(path, Folded())
    return bool(found.done)


def _unknown(call: Call) -> str:
    if isinstance(call.norm, BatchNorm):
        return "it has statistics for each time step"
    if isinstance(call.norm, Norm):
        name, axes = f"norm={call.norm.name}", call.norm.pooled
    else:
        name, axes = type(call.norm).__name__, ""
    if axes not in ("", "C"):
        return f"{name} takes its statistics of each example over {', '.join(axes)}: folding knows only those over C"
    return f"{name} is no fixed affine map in eval mode, and neither layer nor RMS norm"


def _compiled_loops(model: nn.Module) -> list[list[str]]:
    """The layer norms of each cell whose recurrence is compiled. They are all of one kind, or it computes none."""
    cells = [(path, m) for path, m in model.named_modules() if isinstance(m, LSTMCell) and m.kernel == "fused"]
    return [[f"{path}.{name}" for name, norm in m.named_children() if isinstance(norm, LayerNorm)] for path, m in cells]


def _centre(graph: Graph, found: Stripped, loops: list[list[str]]) -> set[str]:
    """Centre what can be centred; the paths of the layer norms that have nothing to subtract any more."""
    centred: set[str] = set()
    every = list(streams(graph))
    possible = {call.path for stream in every if stream.problem is None for call in stream.calls}
    for stream in every:
        for loop in loops:
            stays = next((path for path in loop if path not in possible), None)
            if stays is not None and any(call.path in loop for call in stream.calls):
                stream.problem = (
                    stream.problem or f"the compiled recurrence has one kind of norm, and {stays} can't change"
                )
    for stream in every:
        paths = dict.fromkeys(call.path for call in stream.calls)
        if stream.problem is not None:
            for path in paths:
                found.left[path].append(f"centring: {stream.problem}")
            continue
        centre(found.model, stream)
        written = dict.fromkeys(name.rpartition(".")[0] or name for w in stream.writers for name, _ in w.parameters)
        for path in paths:
            found.done[path].append(Moved("centring", tuple(sorted(written))))
            centred.add(path)
    return centred


def _move_gains(graph: Graph, found: Stripped, padded: bool) -> set[str]:
    """Move gains and biases into the layers after; the paths of the norms that have none any more."""
    moved: set[str] = set()
    by_path: dict[str, list[Call]] = defaultdict(list)
    for call in graph.calls:
        if (call.centres or call.rescales) and not (call.gain is None and call.bias is None):
            by_path[call.path].append(call)
    for path, calls in by_path.items():
        gain, bias = (None if p is None else p.detach().double() for p in (calls[0].gain, calls[0].bias))
        what = " and ".join(name for name, part in (("gain", gain), ("bias", bias)) if part is not None)
        shifted = bias is not None and bool(bias.any())
        after = forwards(graph, calls, shifted, padded)
        if isinstance(after, str):
            found.left[path].append(f"{what}: {after}")
            continue
        scale_inputs(found.model, after, gain, bias if shifted else None)
        found.done[path].append(Moved(what, _named(after)))
        moved.add(path)
    return moved


def _rest(norm: nn.Module, call: Call, *, centred: bool, bare: bool, compiled: bool) -> nn.Module:
    """What is left of a norm."""
    if compiled:  # the recurrence's compiled loop knows our norms
        assert isinstance(norm, LayerNorm)
        rest: nn.Module = RMSNorm(
            norm.num_features, "BC", norm.parts, norm.positions, norm.bias is not None, eps=norm.eps, with_bias=True
        )
    else:
        width = norm.num_features if isinstance(norm, Norm) else norm.normalized_shape[-1]  # type: ignore[index]
        first = isinstance(norm, Norm) and norm.channels_first
        rest = PlainNorm(
            int(width),
            call.blocks,
            float(norm.eps),  # type: ignore[arg-type]
            centred=centred or call.rescales,
            channels_first=first,
        )
    if call.gain is not None and isinstance(rest, PlainNorm):
        rest.unit = call.gain.detach().new_ones(rest.unit.shape)
    if not bare:
        rest.gain, rest.bias = call.gain, call.bias  # type: ignore[assignment]
    return rest


def _rebuild_kernels(model: nn.Module) -> None:
    """Let the cells of an LSTM choose again whether the compiled loop computes them."""
    for module in model.modules():
        if isinstance(module, LSTMCell) and module.kernel == "fused":
            module.kernel = cell.choose("auto", module._norms())


def _named(after: list[Reader]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reader.layer.weight.rpartition(".")[0] for reader in after))
