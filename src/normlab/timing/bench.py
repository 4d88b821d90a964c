"""Setup shared by the timing measures: the machine, real batches, and the same network with each norm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, Literal

import torch
from torch import Tensor

from normlab.config.measures.timing import Timing
from normlab.config.names import component_name
from normlab.config.schema import InputError
from normlab.data.batch import Batch
from normlab.data.loader import loader
from normlab.models.base import Model, facts_of
from normlab.models.statistics import check_statistics
from normlab.session.session import Session
from normlab.timing.blocks import AGAINST, Part, Times, interleaved

Clock = Literal["process", "wall"]


class Bench:
    """The setup in which the config's norm and the one that it is compared with are timed.

    Args:
        session: of a timing measure.

    Attributes:
        norms: the config's norm, `""`, and the one that it is compared with, `"_against"`, if there is one.
        dtype: of the weights.
    """

    def __init__(self, session: Session) -> None:
        config = session.config
        assert isinstance(config.measure, Timing)
        # use_deterministic_algorithms would import the compiler, which takes half as long as all of torch
        torch.set_deterministic_debug_mode("error" if config.trainer.deterministic else "default")
        self.session = session
        self.config = config
        self.options = config.measure
        self.norms = {"": config.norm}
        if self.options.against:
            self.norms[AGAINST] = self.options.against
        self.device = session.device
        self.dtype = torch.float64 if config.trainer.precision == "64-true" else torch.float32

    def models(self) -> dict[str, Model]:
        """The network with each norm; tensors that both share have the same initial values."""
        return {suffix: self._model(norm) for suffix, norm in self.norms.items()}

    def _model(self, norm: dict[str, Any]) -> Model:
        model = self.session.model(norm)
        if self.options.trained:
            check_statistics(model, self.session.data.sizes, self.options.batch_size)
        return model.to(self.device, self.dtype)

    def batches(self, size: int, count: int) -> list[Batch]:
        """The first batches of training with a batch of that many examples, on the device."""
        split, task = self.session.data.split("train"), self.config.task
        if len(split) < size:
            raise InputError(f"a batch of {size}: the training split of task={task.name} has {len(split)} examples")
        batches = loader(split, size, seed=self.session.seed("order"), bucket=task.bucket)
        return [self._moved(batch) for batch in islice(cycle(batches), count)]

    def _moved(self, batch: Batch) -> Batch:
        batch = batch.to(self.device)
        real = batch.inputs.is_floating_point()
        return replace(batch, inputs=batch.inputs.to(self.dtype)) if real else batch

    def forward(self, model: Model) -> Callable[..., Tensor]:
        """The model as called in training, compiled if requested."""
        return torch.compile(model) if self.config.trainer.compile else model

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision, if the config requests it."""
        if self.config.trainer.precision == "bf16-mixed":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    @property
    def clock(self) -> Clock:
        """The process's CPU time if one thread does all the work, because it excludes other processes on its core."""
        return "process" if self.device.type == "cpu" and self.config.threads == 1 else "wall"

    def timed(self, arms: Mapping[str, Sequence[Part]]) -> dict[str, Times]:
        """The times of all arms, in blocks as configured (see `interleaved`)."""
        return interleaved(
            arms,
            steps=self.options.steps,
            blocks=self.options.blocks,
            seed=self.session.seed("blocks"),
            clock=time.process_time if self.clock == "process" else time.perf_counter,
            settle=self.settle,
        )

    def settle(self) -> None:
        """Wait for the GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def described(bench: Bench, models: dict[str, Model]) -> dict[str, Any]:
    """What was timed, and how: `against` names the second norm; parameters and the models' facts are given for each."""
    summary: dict[str, Any] = {"threads": torch.get_num_threads(), "clock": bench.clock}
    if bench.options.against:
        summary["against"] = component_name(bench.options.against)
    for suffix, model in models.items():
        summary[f"parameters{suffix}"] = sum(p.numel() for p in model.parameters())
        summary |= {f"{name}{suffix}": value for name, value in facts_of(model).items()}
    return summary
