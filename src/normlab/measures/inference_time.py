"""How long a forward pass in eval mode takes, with batch norm folded away, compared with a second norm."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from normlab.config.measures.timing import InferenceTime
from normlab.config.schema import InputError, RunConfig
from normlab.data.batch import Batch
from normlab.folder.place import Place
from normlab.models.base import Model
from normlab.models.fold import fold
from normlab.session.session import Session
from normlab.timing.bench import Bench, described
from normlab.timing.blocks import Part, compared, rows
from normlab.timing.fresh import Found, measure_fresh

REHEARSALS = 10  # training batches from which running statistics are computed


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Milliseconds of a forward pass with the config's norm and with `measure.against`, in a fresh process.

    Both networks are in eval mode, without gradients, on the same real batches of the training split; short blocks of
    the two alternate in random order. If `measure.fold` is true and folding is exact, the norms are folded into the
    layers before them (see `fold`). Weights are untrained; running statistics come from training batches.

    Returns:
        A flat summary: `inference_ms`, `inference_ms_min`, `inference_ratio` (see `compared`: norm / against);
        `folded`, whether the norms were folded; `fold_error`, if so: the greatest difference of an output from that of
        the unfolded network, relative to the greatest output. A second norm's have the suffix `_against`. The run's
        metrics have the time of every block.
    """
    return measure_fresh(find, config, place)


@torch.inference_mode()
def find(session: Session) -> Found:
    """Measure in this process: the summary and the rows."""
    bench = Bench(session)
    options, models = bench.options, bench.models()
    assert isinstance(options, InferenceTime)
    summary = described(bench, models)
    batches = bench.batches(options.batch_size, options.steps)
    arms: dict[str, list[Part]] = {}
    for suffix, model in models.items():
        torch.manual_seed(session.seed("noise"))
        for batch in bench.batches(session.config.task.batch_size, REHEARSALS):
            model.train()(batch.inputs, batch.mask)
        model.eval()
        served = folded(model) if options.fold else None
        summary[f"folded{suffix}"] = served is not None
        if served is not None:
            summary[f"fold_error{suffix}"] = fold_error(served, model, batches)
        arms[suffix] = [_pass(bench, served or model, batches)]
    times = bench.timed(arms)
    return {**summary, **compared(times, "inference")}, rows(times, "inference")


def folded(model: Model) -> Model | None:
    """The model with its norms folded away; None if that is not exact."""
    try:
        return fold(model)
    except InputError:
        return None


@torch.no_grad()
def fold_error(one: nn.Module, other: nn.Module, batches: list[Batch]) -> float:
    """Greatest difference of their outputs, relative to the greatest of the second's."""
    pairs = [(one(batch.inputs, batch.mask), other(batch.inputs, batch.mask)) for batch in batches]
    greatest = max(float(y.abs().max()) for _, y in pairs)
    return max(float((x - y).abs().max()) for x, y in pairs) / greatest


def _pass(bench: Bench, model: Model, batches: list[Batch]) -> Part:
    call = bench.forward(model)

    def forward(i: int) -> None:
        with bench.autocast():
            call(batches[i].inputs, batches[i].mask)

    return forward
