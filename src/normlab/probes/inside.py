"""Measures a network while it trains: the signals at its norms, and their gradients."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from normlab.data.batch import Batch
from normlab.models.base import Model
from normlab.norms.base import Norm
from normlab.norms.running import RunningNorm
from normlab.probes.discrepancy import discrepancies
from normlab.probes.signals import cosine, dead_share, rms, stable_rank
from normlab.probes.undisturbed import undisturbed
from normlab.tasks.task import Task

_GEOMETRIC = ("gradient", "activation")  # sizes, which have a geometric mean over sites


class Inside(pl.Callback):
    """Before each validation, measures one fixed batch of the training split, in training mode.

    For each norm site, with y the output of the norm, over the real entries of the batch:

        gradient      RMS of ∂L/∂y, L the mean loss of the batch
        activation    RMS of y
        stable_rank   of y, see `stable_rank`; sequences are one row each, all their steps concatenated
        cosine        mean cosine between two examples' y, likewise; 1: the network no longer distinguishes them
                      (Daneshmand et al. 2020, arXiv:2003.01652)
        gain_drift    RMS of gain - its initial value, if there is a gain
        tid_mean      for batch norm, the means of `discrepancies` over a site's sets of statistics, running against the
        tid_var       batch's (Wang et al. 2022, arXiv:2210.05153)
        tid_mean_iid  their expectation if the entries of a set were independent and Gaussian and the running
        tid_var_iid   statistics exact: values up to this need no explanation
        dead          for each relu instead of a site, the share of its units that are 0 for the whole batch (Lu et al.
                      2019, arXiv:1903.06733); one that is called several times has a value for each call, `path.1` …

    Logged as `inside/<quantity>/<site>`, and `inside/<quantity>` for all sites together: the geometric mean of gradient
    and activation, the mean of the others. An undefined value, such as the cosine with 0, is not finite.

    Training is bit-identical with and without this callback: it has its own batch and random numbers, and restores
    everything that a forward pass changes. A measurement is one forward and one backward pass, in the weights'
    precision, with dropout and state noise as in training. An LSTM runs as plain tensor code, where each site sees all
    time steps.

    Args:
        model: untrained.
        batches: of the training split, as training composes them; the first is used.
        seed: for dropout and other noise.
    """

    def __init__(self, model: nn.Module, batches: Iterable[Batch], seed: int) -> None:
        self.batches = batches
        self.seed = seed
        gains = {path: norm.gain for path, norm in sites(model).items()}
        self.initial = {path: gain.detach().clone() for path, gain in gains.items() if gain is not None}
        self.found: dict[str, float] = {}
        self._batch: Batch | None = None

    def on_validation_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Measure and log."""
        assert isinstance(task, Task)
        with torch.inference_mode(False):  # otherwise tensors created here would have no gradients
            if self._batch is None:
                batch = next(iter(self.batches)).to(task.device)
                self._batch = trainer.precision_plugin.convert_input(batch)
            self.found = summarised(look(task, self._batch, self.initial, self.seed))
        for logger in trainer.loggers:
            logger.log_metrics(self.found, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Store the last measurement."""
        return {"found": self.found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it, for a run that diverges before the next measurement."""
        self.found = dict(state["found"])


def sites(model: nn.Module) -> dict[str, Norm]:
    """The norms of a model by their path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, Norm)}


@dataclass(frozen=True)
class Visit:
    """One call of a norm: its input and, as part of the graph, its output."""

    x: Tensor
    mask: Tensor | None
    step: int | None
    y: Tensor


@dataclass(frozen=True)
class Watch:
    """The inputs and outputs of a model's modules during a forward pass, by path."""

    sites: dict[str, list[Visit]]
    relus: dict[str, list[Tensor]]


@contextmanager
def watching(model: Model) -> Iterator[Watch]:
    """Record norms and relus within the context, in which every norm is called (`Model.unfused`)."""
    watch = Watch({path: [] for path in sites(model)}, {})

    def keep_visit(path: str, _: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any], y: Tensor) -> Tensor:
        named = dict(zip(("x", "mask", "step"), arguments, strict=False)) | options
        own = y.view_as(
            y
        )  # if a norm returns its input, the gradient of a parallel shortcut must not be counted as its own
        watch.sites[path].append(Visit(named["x"], named.get("mask"), named.get("step"), own))
        return own

    def keep_input(path: str, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        watch.relus.setdefault(path, []).append(arguments[0])

    handles = []
    for path, module in model.named_modules():
        if isinstance(module, Norm):
            handles.append(module.register_forward_hook(partial(keep_visit, path), with_kwargs=True))
        elif isinstance(module, nn.ReLU):
            handles.append(module.register_forward_pre_hook(partial(keep_input, path)))
    try:
        with model.unfused():
            yield watch
    finally:
        for handle in handles:
            handle.remove()


def look(task: Task, batch: Batch, initial: Mapping[str, Tensor], seed: int) -> dict[str, dict[str, float]]:
    """Quantity → site → value for one batch; see `Inside`."""
    model = task.model
    assert isinstance(model, Model)
    with undisturbed(model, seed), torch.enable_grad():
        model.train()
        with watching(model) as watch:
            loss = task.losses(model(batch.inputs, batch.mask), batch) / batch.total
        outputs = [visit.y for visits in watch.sites.values() for visit in visits]
        gradients = iter(torch.autograd.grad(loss, outputs, allow_unused=True, materialize_grads=True))
    found: dict[str, dict[str, float]] = {}
    with torch.no_grad():  # the running statistics have been restored
        for path, norm in sites(model).items():
            visits = watch.sites[path]
            values = _at_site(norm, visits, [next(gradients) for _ in visits], initial.get(path))
            for name, value in values.items():
                found.setdefault(name, {})[path] = value
        for path, inputs in watch.relus.items():
            for i, x in enumerate(inputs, 1):
                place = path if len(inputs) == 1 else f"{path}.{i}"
                found.setdefault("dead", {})[place] = dead_share(x, batch.mask)
    return found


def _at_site(norm: Norm, visits: list[Visit], gradients: list[Tensor], initial: Tensor | None) -> dict[str, float]:
    y, gradient = _joined([visit.y.detach() for visit in visits]), _joined(gradients)
    masks = [visit.mask for visit in visits if visit.mask is not None]
    mask = _joined(masks) if masks else None
    found = {
        "gradient": float(rms(_real(norm, gradient, mask))),
        "activation": float(rms(_real(norm, y, mask))),
        "stable_rank": stable_rank(y),
        "cosine": cosine(y),
    }
    if norm.gain is not None and initial is not None:
        found["gain_drift"] = float(rms(norm.gain - initial.to(norm.gain)))
    if isinstance(norm, RunningNorm):
        sets = torch.cat([discrepancies(norm, visit.x, visit.mask, visit.step) for visit in visits], 1)
        names = ("tid_mean", "tid_var", "tid_mean_iid", "tid_var_iid")
        found |= dict(zip(names, sets.mean(1).tolist(), strict=True))
    return found


def _joined(visits: list[Tensor]) -> Tensor:
    """The steps of a recurrence, [B, …] each, stacked as [B, T, …]; a single visit unchanged."""
    return visits[0] if len(visits) == 1 else torch.stack(visits, 1)


def _real(norm: Norm, values: Tensor, mask: Tensor | None) -> Tensor:
    """The entries that are not padding."""
    if mask is None:
        return values
    return (values.movedim(1, -1) if norm.channels_first else values)[mask]


def summarised(found: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Flat: `inside/<quantity>/<site>`, and `inside/<quantity>` over all sites."""
    flat: dict[str, float] = {}
    for quantity, by_site in found.items():
        values = torch.tensor(list(by_site.values()), dtype=torch.float64)
        together = values.log().mean().exp() if quantity in _GEOMETRIC else values.mean()
        flat[f"inside/{quantity}"] = float(together)
        flat |= {f"inside/{quantity}/{site}": value for site, value in by_site.items()}
    return flat
