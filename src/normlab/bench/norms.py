"""Norms beside PyTorch's: which are compared, with what, and how long they may take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.bench.paired import Effort, ratio
from normlab.norms.base import Layout, Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.derf import DynamicErf
from normlab.norms.dyt import DynamicTanh
from normlab.norms.group import GroupNorm
from normlab.norms.instance import InstanceNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.layer_channel import LayerChannelNorm
from normlab.norms.rms import RMSNorm

LAYOUTS: tuple[Layout, ...] = ("BC", "BTC", "BCHW")
SHAPES: dict[Layout, tuple[int, ...]] = {"BC": (128,), "BTC": (32, 128), "BCHW": (64, 8, 8)}  # of one example
EXAMPLES = (1, 8, 64, 512)
Pass = Literal["training", "evaluation"]
PASSES: dict[Pass, str] = {"training": "forward and backward", "evaluation": "evaluation"}

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Arm:
    """A norm and what it is compared with.

    name     as printed
    limit    of ours / theirs
    layouts  where it is compared
    ours     layout → the norm
    theirs   layout → a function of x and the norm's parameters
    padding  share of padded positions, for ours
    why      where it costs more by nature
    """

    name: str
    limit: float
    layouts: tuple[Layout, ...]
    ours: Callable[[Layout], Norm]
    theirs: Callable[[Layout, Norm], Forward]
    padding: float = 0.0
    why: str = ""


def channels(layout: Layout) -> int:
    """Channels of the compared shape."""
    return SHAPES[layout][0 if layout == "BCHW" else -1]


def _norm(kind: type[Norm], layout: Layout, parts: int = 1) -> Norm:
    positions = SHAPES[layout][0] if layout == "BTC" else None
    return kind(channels(layout), layout, parts=parts, positions=positions)


def layer_norm(layout: Layout, norm: Norm) -> Forward:
    """Layer norm of a norm's sites, as a function of PyTorch."""
    gain = nn.Parameter(torch.ones(norm.num_features))
    bias = nn.Parameter(torch.zeros(norm.num_features))
    if layout == "BCHW":
        return lambda x: F.group_norm(x, 1, gain, bias)
    return lambda x: F.layer_norm(x, (norm.num_features,), gain, bias)


def _unmasked(layout: Layout, norm: Norm) -> Forward:
    return _norm(type(norm), layout)


def _module(layout: Layout, norm: Norm) -> Forward:
    """torch.nn's module; sequences are transposed as its documentation says."""
    size = norm.num_features
    if isinstance(norm, LayerNorm):
        return nn.GroupNorm(1, size) if layout == "BCHW" else nn.LayerNorm(size)
    if isinstance(norm, GroupNorm):
        return nn.GroupNorm(norm.groups, size)
    if isinstance(norm, InstanceNorm):
        return nn.InstanceNorm2d(size, affine=True)
    return nn.BatchNorm2d(size) if layout == "BCHW" else nn.BatchNorm1d(size)


ARMS = (
    Arm("rms", 1.0, LAYOUTS, partial(_norm, RMSNorm), layer_norm),
    Arm("dyt", 1.2, LAYOUTS, partial(_norm, DynamicTanh), layer_norm, why="alpha has a gradient too"),
    Arm("derf", 1.2, LAYOUTS, partial(_norm, DynamicErf), layer_norm, why="alpha and shift have gradients too"),
    Arm(
        "layer parts",
        1.1,
        ("BC", "BTC"),
        partial(_norm, LayerNorm, parts=4),
        layer_norm,
        why="four sets of statistics",
    ),
    Arm(
        "by channel",
        1.1,
        ("BCHW",),
        partial(_norm, LayerChannelNorm),
        layer_norm,
        why="a set of statistics for each position",
    ),
    Arm("batch masked", 1.5, ("BTC",), partial(_norm, BatchNorm), _unmasked, padding=0.3),
    Arm("batch padded", 1.0, ("BTC",), partial(_norm, BatchNorm), _unmasked, padding=0.6),
    Arm("layer", 1.03, LAYOUTS, partial(_norm, LayerNorm), _module),
    Arm("group", 1.03, ("BCHW",), partial(_norm, GroupNorm), _module),
    Arm("instance", 1.03, ("BCHW",), partial(_norm, InstanceNorm), _module),
    Arm("batch", 1.03, ("BC", "BCHW"), partial(_norm, BatchNorm), _module),
)


def compared(arm: Arm, layout: Layout, examples: int, passed: Pass, effort: Effort) -> float:
    """Ours / theirs on random inputs of one size."""
    torch.manual_seed(0)
    x = torch.randn(examples, *SHAPES[layout], requires_grad=passed == "training")
    norm = arm.ours(layout)
    ours: Forward = norm
    if arm.padding:
        kept = round(SHAPES[layout][0] * (1 - arm.padding))
        mask = (torch.arange(SHAPES[layout][0]) < kept).expand(examples, -1).contiguous()
        ours = partial(norm, mask=mask)
    theirs = arm.theirs(layout, norm)
    for module in (norm, theirs):
        if isinstance(module, nn.Module):
            module.train(passed == "training" and not _needs_two(module, x))
    with torch.set_grad_enabled(passed == "training"):
        return ratio(_call(ours, x, passed), _call(theirs, x, passed), effort)


def _needs_two(module: nn.Module, x: Tensor) -> bool:
    """PyTorch refuses batch norm over one value."""
    return isinstance(module, nn.BatchNorm1d | BatchNorm) and x.ndim == 2 and len(x) == 1


def _call(forward: Forward, x: Tensor, passed: Pass) -> Callable[[], object]:
    if passed == "evaluation":
        return partial(forward, x)
    cotangent = torch.randn_like(x)

    def both() -> None:
        x.grad = None
        forward(x).backward(cotangent)

    return both


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Compute with so many threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tables(numbers: Sequence[int], quick: bool) -> Iterator[str]:
    """A table for each pass and number of threads, line by line."""
    quickly = Effort(rounds=15, seconds=0.0005)
    sizes = (8, 64) if quick else EXAMPLES
    width = 5 * len(sizes)
    slow = set()
    for number in numbers:
        effort = quickly if quick else quickly._replace(rounds=61)
        effort = effort._replace(clock=time.thread_time if number == 1 else time.perf_counter)
        for passed, title in PASSES.items():
            yield f"{title}, {number} thread{'s' if number > 1 else ''}"
            yield " " * 19 + "".join(f"{layout:>{width}}" for layout in LAYOUTS)
            yield f"{'':13}{'limit':>5} " + "".join(f"{size:5}" for size in sizes) * len(LAYOUTS)
            for arm in ARMS:
                line = f"{arm.name:13}{arm.limit:5.2f} "
                for layout in LAYOUTS:
                    for size in sizes:
                        if layout not in arm.layouts:
                            line += " " * 5
                            continue
                        with threads(number):
                            found = compared(arm, layout, size, passed, effort)
                        line += f"{found:4.2f}".rjust(4)[:4] + ("*" if found > arm.limit else " ")
                        slow |= {arm} if found > arm.limit else set()
                yield line.rstrip()
            yield ""
    yield from (f"* {arm.name}: {arm.why or 'above the limit'}" for arm in ARMS if arm in slow)
