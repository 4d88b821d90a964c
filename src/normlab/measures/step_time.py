"""How long a training step takes, and how much it saves for its backward pass, compared with a second norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from normlab.config.schema import RunConfig
from normlab.data.batch import Batch
from normlab.folder.place import Place
from normlab.models.base import Model
from normlab.session.session import Session
from normlab.tasks.optimiser import build_optimiser
from normlab.timing.bench import Bench, described
from normlab.timing.blocks import WARM_UP, Part, compared, rows
from normlab.timing.fresh import Found, measure_fresh

PARTS = ("forward", "backward", "optimiser")


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Milliseconds of a training step with the config's norm and with `measure.against`, in a fresh process.

    A step consists of forward pass and loss, backward pass, clipping and optimiser. Lightning's loop, the learning rate
    schedule and gathering the batch are not timed. Both networks start with the same values and use the same real
    batches, one for each step of a block, in every block; short blocks of the two alternate in random order.

    Returns:
        A flat summary: `step_ms`, `step_ms_min`, `step_ratio` (see `compared`: `ratio` is norm / against); on a CPU
        `forward_ms`, `backward_ms` and `optimiser_ms`, medians as well; `saved_bytes`, what the forward pass of the
        first batch saves for the backward pass, each storage once, without the parameters, the buffers and the batch. A
        second norm's have the suffix `_against`. The run's metrics have the time of every block.
    """
    return measure_fresh(find, config, place)


def find(session: Session) -> Found:
    """The summary and the rows, in this process."""
    bench = Bench(session)
    options, models = bench.options, bench.models()
    batches = bench.batches(options.batch_size, options.steps)
    torch.manual_seed(session.seed("noise"))
    steps = {suffix: Step(bench, model.train(), batches) for suffix, model in models.items()}
    summary = described(bench, models)
    summary |= {f"saved_bytes{suffix}": step.saved_bytes() for suffix, step in steps.items()}
    times = bench.timed({suffix: step.parts() for suffix, step in steps.items()})
    summary |= compared(times, "step")
    for suffix, blocks in times.items():
        if len(blocks[0]) == len(PARTS):
            columns = zip(PARTS, zip(*blocks, strict=True), strict=True)
            summary |= {f"{part}_ms{suffix}": 1000 * median(values) for part, values in columns}
    summary["steps"] = (WARM_UP + options.blocks) * options.steps
    summary["diverged"] = not all(math.isfinite(float(step.loss.detach())) for step in steps.values())
    return summary, rows(times, "step")


class Step:
    """A training step of one network, in parts.

    Args:
        bench: where it is timed.
        model: in training mode.
        batches: one for each step of a block.
    """

    def __init__(self, bench: Bench, model: Model, batches: Sequence[Batch]) -> None:
        self.bench = bench
        self.model = model
        self.batches = batches
        self.optim = bench.config.optim
        self.optimiser = build_optimiser(model, self.optim)
        self.call = bench.forward(model)
        self.loss = torch.zeros(())

    def parts(self) -> list[Part]:
        """The three parts; on a GPU, which works asynchronously, the whole step as one part."""
        parts = [self.forward, self.backward, self.update]
        return parts if self.bench.device.type == "cpu" else [self.whole]

    def forward(self, i: int) -> None:
        """The loss of the i-th batch."""
        batch = self.batches[i]
        with self.bench.autocast():
            self.loss = loss_of(self.call(batch.inputs, batch.mask), batch)

    def backward(self, _i: int) -> None:
        """Its gradients."""
        self.loss.backward()

    def update(self, _i: int) -> None:
        """Clip, step, and clear the gradients."""
        if self.optim.clip is not None:
            clip_grad_norm_(self.model.parameters(), self.optim.clip)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def whole(self, i: int) -> None:
        """All three."""
        self.forward(i)
        self.backward(i)
        self.update(i)

    def saved_bytes(self) -> int:
        """Bytes that the forward pass of the first batch saves for the backward pass, each storage once."""
        batch = self.batches[0]
        kept: dict[int, int] = {}

        def keep(x: Tensor) -> Tensor:
            storage = x.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return x

        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            self.forward(0)
        here = [*self.model.parameters(), *self.model.buffers(), batch.inputs, batch.targets]
        here += [] if batch.mask is None else [batch.mask]
        for x in here:
            kept.pop(x.untyped_storage().data_ptr(), None)
        self.loss = self.loss.detach()  # frees the graph
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(buffers[name])
        return sum(kept.values())


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy over the targets, as in the tasks, whose modules import Lightning."""
    losses = F.cross_entropy(logits.flatten(0, -2).float(), batch.targets.flatten(), reduction="sum")
    return losses / batch.total
