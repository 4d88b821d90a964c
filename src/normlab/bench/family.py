"""Times every norm of conf/norm beside layer norm, with the norm's default options."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from statistics import median
from typing import Any

import yaml

from normlab.bench.costs import Cost
from normlab.bench.norms import LAYOUTS, SHAPES, Arm, channels, compared, layer_norm, threads
from normlab.bench.paired import Effort
from normlab.config.shipped import CONF
from normlab.models.build import factory
from normlab.norms.base import Layout, Norm

EXAMPLES = 64
_NEVER = 10**9  # training passes


def measured(names: Sequence[str], quick: bool, processor: str) -> Iterator[str]:
    """The table of `costs` as CSV, line by line, of these norms on this processor."""
    told = f"{processor.replace(',', ' ')},{version('torch').partition('+')[0]},{date.today().isoformat()}"
    yield ",".join(Cost._fields)
    effort = Effort(15, 0.0005, time.thread_time) if quick else Effort(21, 0.001, time.thread_time)
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(1 if quick else 5):  # a minute apart, because what else the machine does changes slowly
        for name in names:
            with threads(1):
                for layout, ratio in ratios(name, effort):
                    found.setdefault((name, layout), []).append(ratio)
    yield from (f"{name},{layout},{median(each):.1f},{told}" for (name, layout), each in found.items())


def ratios(name: str, effort: Effort) -> Iterator[tuple[Layout, float]]:
    """Forward and backward of a norm ÷ layer norm's, at each of the compared layouts where the norm is valid.

    A schedule in training passes does not end within the measurement: frozen batch norm is timed before it freezes.
    """
    node: dict[str, Any] = yaml.safe_load((CONF / "norm" / f"{name}.yaml").read_text(encoding="utf-8"))
    make = factory(node)
    kind: type[Norm] = make.func  # type: ignore[assignment]
    options = dict.fromkeys(kind.counted, _NEVER)

    def built(layout: Layout) -> Norm:
        positions = SHAPES[layout][0] if layout == "BTC" else None
        norm: Norm = make(channels(layout), layout, positions=positions, **options)
        return norm

    arm = Arm(name, float("inf"), tuple(layout for layout in LAYOUTS if layout in kind.layouts), built, layer_norm)
    for layout in arm.layouts:
        yield layout, compared(arm, layout, EXAMPLES, "training", effort)
