"""A network's files compared with the checkpoint: how far their outputs differ, and how long each takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from normlab.config.errors import InputError
from normlab.data.batch import Batch
from normlab.data.splits import Split
from normlab.export.artefacts import Call, padded_to
from normlab.models.base import Model
from normlab.timing.blocks import interleaved, ratio, totals

TOLERANCE = 1e-5  # greatest difference of an output, relative to the greatest output
CHECKED = 256  # validation examples at most
SIZES = (1, 8, 64)  # examples in a batch
REPEATS = 15
BLOCK_SECONDS = 0.02


@dataclass(frozen=True)
class Feed:
    """How the real examples of a split become the arguments of a network.

    masked  it takes a mask
    length  steps to which sequences are padded; None: those of the batch
    """

    split: Split
    masked: bool
    length: int | None = None

    def batches(self, size: int, count: int) -> Iterator[Batch]:
        """The first `count` examples in batches of `size`, in the order of the split."""
        for index in self.split.in_order()[:count].split(size):
            yield self.split.gather(index)

    def filled(self, size: int) -> Batch:
        """One batch of exactly that many examples, repeated if there are fewer."""
        order = self.split.in_order()
        return self.split.gather(order[torch.arange(size) % len(order)])

    def arguments(self, batch: Batch) -> tuple[Tensor, ...]:
        """The arguments of a network for this batch."""
        inputs, mask = batch.inputs, batch.mask
        if self.masked and mask is None:
            mask = torch.ones(inputs.shape[:2], dtype=torch.bool)
        if self.length is not None:
            inputs, mask = padded_to(inputs, mask, self.length)
        return (inputs, mask) if self.masked and mask is not None else (inputs,)


@torch.inference_mode()
def difference(model: Model, call: Call, feed: Feed) -> tuple[float, int]:
    """The greatest difference of an output from the model's, relative to the model's greatest output, and the number
    of examples compared: single ones first, then batches.

    Raises:
        InputError: the model's outputs are not finite, so nothing can be compared.
    """
    greatest = apart = 0.0
    count = 0
    batches = [*feed.batches(1, 3), *feed.batches(64, CHECKED)]
    for number, batch in enumerate(batches):
        expected, found = model(batch.inputs, batch.mask), call(*feed.arguments(batch))
        if found.shape != expected.shape:
            found = found[:, : expected.shape[1]]  # per step, of sequences that were padded
        if batch.mask is not None and expected.shape[:2] == batch.mask.shape:
            found, expected = found[batch.mask], expected[batch.mask]
        if not expected.isfinite().all():
            raise InputError("the network's outputs on validation examples are not finite: train it again")
        wrong = (found - expected).abs().nan_to_num(nan=float("inf"))
        greatest, apart = max(greatest, float(expected.abs().max())), max(apart, float(wrong.max()))
        count += len(batch.inputs) if number >= 3 or len(batches) <= 3 else 0
    return apart / max(greatest, 1e-30), count


def latencies(model: Model, others: Mapping[str, tuple[Call, Feed]], feed: Feed, threads: int) -> list[dict[str, Any]]:
    """Milliseconds that each takes for batches of real examples: one row for each size and network.

    Blocks of all networks alternate in random order in this process. `ms` is the median of the blocks, `ms_min` and
    `ms_max` their range, `ratio` the median over the rounds of its time / the checkpoint's.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    rows: list[dict[str, Any]] = []
    for size in SIZES:
        batch = feed.filled(size)
        calls: dict[str, tuple[Call, tuple[Tensor, ...]]] = {"checkpoint": (model, feed.arguments(batch))}
        calls |= {name: (call, own.arguments(batch)) for name, (call, own) in others.items()}
        with torch.inference_mode():
            once = min(_seconds(*calls["checkpoint"]) for _ in range(3))
            steps = max(1, round(BLOCK_SECONDS / max(once, 1e-6)))
            arms = {name: [lambda _, c=call, a=arguments: c(*a)] for name, (call, arguments) in calls.items()}
            times = interleaved(arms, steps=steps, blocks=REPEATS, seed=size, clock=clock)
        for name, blocks in times.items():
            ms = totals(blocks)
            figures = {
                "ms": median(ms),
                "ms_min": min(ms),
                "ms_max": max(ms),
                "ratio": ratio(blocks, times["checkpoint"]),
            }
            rows.append({"examples": size, "network": name, **figures})
    return rows


def _seconds(call: Call, arguments: tuple[Tensor, ...]) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start
