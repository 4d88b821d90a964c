"""How long a model's norms alone take, and which share of batch norm's time running statistics take."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.config.schema import RunConfig
from normlab.data.batch import Batch
from normlab.folder.place import Place
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.session.session import Session
from normlab.timing.bench import Bench, described
from normlab.timing.blocks import Part, compared, ratio, rows, totals
from normlab.timing.fresh import Found, measure_fresh


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Milliseconds of all norms of a network in a training step, forward and backward, in a fresh process.

    Each norm gets the input that it has when the untrained network reads the first real batch, and a random gradient;
    nothing else of the network runs. Short blocks of the norm and of `measure.against` alternate in random order.

    If one of the two is batch norm, PyTorch's batch norm is timed on the same inputs too, with and without keeping
    running statistics (it knows no mask, so padding is included):

        update_share = 1 - median over the rounds of without / with

    Returns:
        A flat summary: `site_ms`, `site_ms_min`, `site_ratio` (see `compared`: norm / against), with the suffix
        `_against` for the second; `sites`, their number; with batch norm `torch_ms`, `torch_ms_without_update`
        (medians) and `update_share`. The run's metrics have the time of every block.
    """
    return measure_fresh(find, config, place)


def find(session: Session) -> Found:
    """The summary and the rows, in this process."""
    bench = Bench(session)
    options, models = bench.options, bench.models()
    (batch,) = bench.batches(options.batch_size, 1)
    summary = described(bench, models)
    calls = {}
    for suffix, model in models.items():
        torch.manual_seed(session.seed("noise"))
        with bench.autocast():
            calls[suffix] = site_calls(model.train(), batch)
    summary["sites"] = len(calls[""])
    arms: dict[str, list[Part]] = {suffix: [_each(made)] for suffix, made in calls.items()}
    plain = next((made for made in calls.values() if made and type(made[0].norm) is BatchNorm), None)
    if plain is not None:
        arms[KEEPING] = [_each([torch_call(call, keep=True) for call in plain])]
        arms[WITHOUT] = [_each([torch_call(call, keep=False) for call in plain])]
    times = bench.timed(arms)
    kept, without = times.pop(KEEPING, []), times.pop(WITHOUT, [])
    summary |= compared(times, "site")
    if plain is not None:
        summary |= {"torch_ms": median(totals(kept)), "torch_ms_without_update": median(totals(without))}
        summary["update_share"] = 1 - ratio(without, kept)
    return summary, rows(times, "site")


KEEPING, WITHOUT = "_torch", "_torch_without_update"


@dataclass(frozen=True)
class Call:
    """One call of a norm in a forward pass.

    norm       the norm, or a module that replaces it
    arguments  of the call; the first is a leaf of the graph
    cotangent  the gradient at its output
    """

    norm: nn.Module
    arguments: tuple[Any, ...]
    cotangent: Tensor

    def run(self) -> None:
        """Forward and backward, to the input and the parameters."""
        y = self.norm(*self.arguments)
        torch.autograd.grad(y, [self.arguments[0], *self.norm.parameters()], self.cotangent)


def site_calls(model: nn.Module, batch: Batch) -> list[Call]:
    """Every call of a norm in a forward pass, so that it can be repeated."""
    calls: list[Call] = []

    def keep(norm: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> None:
        leaf = arguments[0].detach().clone().requires_grad_()
        calls.append(Call(norm, (leaf, *arguments[1:]), torch.randn_like(output)))

    handles = [module.register_forward_hook(keep) for module in model.modules() if isinstance(module, Norm)]
    with torch.no_grad():
        model(batch.inputs, batch.mask)
    for handle in handles:
        handle.remove()
    return calls


class TorchBatchNorm(nn.Module):
    """PyTorch's batch norm over the batch and all positions, with the gain and bias of one of our norms."""

    mean: Tensor | None
    var: Tensor | None

    def __init__(self, norm: BatchNorm, keep: bool) -> None:
        super().__init__()
        self.channels_first, self.eps, self.momentum = norm.channels_first, norm.eps, norm.momentum or 0.1
        self.gain, self.bias = norm.gain, norm.bias
        self.register_buffer("mean", torch.zeros_like(norm.gain) if keep else None)
        self.register_buffer("var", torch.ones_like(norm.gain) if keep else None)

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """Normalise x, in the norm's layout."""
        flat = x if self.channels_first else x.flatten(0, -2)
        y = F.batch_norm(
            flat, self.mean, self.var, self.gain, self.bias, training=True, momentum=self.momentum, eps=self.eps
        )
        return y.view_as(x)


def torch_call(call: Call, *, keep: bool) -> Call:
    """The same call with PyTorch's batch norm."""
    assert isinstance(call.norm, BatchNorm)
    return Call(TorchBatchNorm(call.norm, keep), call.arguments, call.cotangent)


def _each(calls: list[Call]) -> Part:
    def run(_i: int) -> None:
        for call in calls:
            call.run()

    return run
