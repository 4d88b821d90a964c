"""Regularised batch norm: its terms of the loss, where they are collected, and where they can't be."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import normlab
from norm_sites import SITES, Site, apply, build, step_of
from normlab.config.errors import InputError
from normlab.config.schema import OptimConfig, Sizes
from normlab.data.batch import Batch
from normlab.models.lstm import LSTM
from normlab.models.mlp import MLP
from normlab.networks.replaced import Named, replaced
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.regularized_batch import RegularizedBatchNorm
from normlab.session.steps import step
from normlab.tasks.classification import Classification
from normlab.tasks.optimiser import build_optimiser

IMAGES = Sizes("images", (1, 2, 3), outputs=3)
WORDS = Sizes("tokens", (5,), outputs=3, vocabulary=7, positions=5)
OPTIM = OptimConfig(name="sgd", lr=0.1, weight_decay=0.0, warmup=0.0)
WEIGHTS = {"mean_weight": 0.7, "var_weight": 0.3}


def loops(norm: RegularizedBatchNorm, site: Site, x: Tensor, mask: Tensor | None) -> float:
    """The terms, one set of statistics after the other."""
    values = x.movedim(1, -1) if site.channels_first else x
    real = torch.ones(values.shape[:-1]).bool() if mask is None else mask
    per_step = site.layout == "BC" and site.positions is not None
    total = 0.0
    for t in range(x.shape[1]) if x.ndim == 3 and per_step else [None]:
        rows = values[real] if t is None else values[:, t][real[:, t]]
        if len(rows) < 2:
            continue
        at = step_of(site) if t is None and per_step else t
        mean, var = (b if at is None else b[at] for b in (norm.running_mean, norm.running_var))
        for c in range(x.shape[1] if site.channels_first else x.shape[-1]):
            channel = rows[:, c]
            total += norm.mean_weight * float((channel.mean() - mean[c]) ** 2)
            total += norm.var_weight * float(abs(channel.var(correction=0) - var[c]))
    return total


@pytest.mark.parametrize("masked", [False, True], ids=["", "masked"])
@pytest.mark.parametrize("site", SITES, ids=lambda site: site.name)
def test_the_terms_are_those_of_the_formula(site: Site, masked: bool) -> None:
    norm = build("regularized_batch", site, **WEIGHTS)
    before = copy.deepcopy(norm)
    norm.terms = []
    x, mask = site.input(), site.mask() if masked else None
    apply(norm, site, x, mask)
    assert float(sum(norm.terms)) == pytest.approx(loops(before, site, x, mask), rel=1e-12)
    norm.terms = []
    apply(norm.eval(), site, x, mask)
    assert norm.terms == []


def images() -> Batch:
    return Batch(torch.randn(6, 1, 2, 3), torch.randint(3, (6,)), None, 6)


def task_of(model: nn.Module, sizes: Sizes) -> Classification:
    return Classification(model, sizes, OPTIM, {})


def test_a_step_reduces_the_loss_and_the_terms() -> None:
    task, batch = task_of(MLP(partial(RegularizedBatchNorm, **WEIGHTS), IMAGES, width=4, depth=2), IMAGES), images()
    seen: list[tuple[Norm, Tensor]] = []
    for norm in task.model.norms:
        norm.register_forward_pre_hook(lambda norm, arguments: seen.append((norm, arguments[0])))
    expected_loss = task.losses(copy.deepcopy(task.model)(batch.inputs), batch) / 6
    seen.clear()
    objective, loss = task.objective(batch)
    # running statistics are 0 and 1 before the first batch
    terms = sum(0.7 * x.mean(0).square().sum() + 0.3 * (x.var(0, correction=0) - 1).abs().sum() for _, x in seen)
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(objective, loss + terms)
    ours = torch.autograd.grad(objective, [*task.model.parameters()], retain_graph=True)
    theirs = torch.autograd.grad(loss + terms, [*task.model.parameters()])
    torch.testing.assert_close(ours, theirs)


def test_every_time_step_of_a_recurrence_adds_its_terms() -> None:
    task = task_of(LSTM(partial(RegularizedBatchNorm, **WEIGHTS), WORDS, width=4), WORDS)
    batch = Batch(torch.randint(7, (4, 5)), torch.randint(3, (4,)), None, 4)
    assert task.model.kernel == "plain"
    objective, loss = task.objective(batch)
    assert float(objective.detach()) > float(loss.detach())
    objective.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in task.model.parameters())


def test_outside_an_objective_nothing_is_kept() -> None:
    """The terms' graph would keep a batch's activations, and tensors with a graph can't be copied."""
    task, batch = task_of(MLP(RegularizedBatchNorm, IMAGES, width=4, depth=1), IMAGES), images()
    task.model(batch.inputs)
    task.objective(batch)
    assert all(norm.terms is None for norm in task.model.norms)
    copy.deepcopy(task)


def test_the_reported_loss_of_a_step_is_the_tasks() -> None:
    """Measures compare it with the entropy of the targets."""
    batch, losses = images(), []
    for kind in (BatchNorm, partial(RegularizedBatchNorm, momentum=0.1)):
        torch.manual_seed(0)
        task = task_of(MLP(kind, IMAGES, width=4, depth=1), IMAGES).train()
        losses.append([step(task, build_optimiser(task.model, OPTIM), batch) for _ in range(2)])
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-5)
    assert losses[0][1] != pytest.approx(losses[1][1], rel=1e-5)


def test_a_swap_for_another_training_is_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(
        InputError, match="regularized_batch adds terms to the loss, which your training would leave out"
    ):
        normlab.swap_norms(net, "regularized_batch", torch.randn(4, 4))
    assert isinstance(net[1], nn.BatchNorm1d)


def test_a_network_of_the_users_gets_the_terms_in_normlabs_training() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    batch = images()
    replaced(net, partial(RegularizedBatchNorm, **WEIGHTS), batch.inputs, "*", Named("model.target=x", "model.only"))
    task = task_of(Unmasked(net), IMAGES)
    objective, loss = task.objective(batch)
    assert float(objective.detach()) > float(loss.detach())


class Unmasked(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        del mask
        return self.net(inputs)


def test_compiled_training_has_the_terms_too() -> None:
    torch._dynamo.reset()
    task, batch = task_of(MLP(RegularizedBatchNorm, IMAGES, width=4, depth=1), IMAGES), images()
    other = copy.deepcopy(task)
    other._compiled = (torch.compile(other.model, backend="eager"),)
    for _ in range(2):
        torch.testing.assert_close(other.objective(batch), task.objective(batch))
