"""The landscape: on a quadratic loss, whose values are known, and by slow formulas on a network."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from norm_sites import config as norm_config
from normlab.config.schema import Sizes
from normlab.data.batch import Batch
from normlab.measures.landscape import gradients_of, layers_in_order, look, shift, smoothness, steps_of_looks
from normlab.models.build import factory
from normlab.models.mlp import MLP


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads take longer where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


RANDOM = torch.get_rng_state()


class Quadratic(nn.Module):
    """L(w) = Σ a w² / 2: its gradient is a w."""

    def __init__(self, a: list[float], w: list[float]) -> None:
        super().__init__()
        self.a = torch.tensor(a, dtype=torch.float64)
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        return (self.a * self.w.square()).sum() / 2


class Loss(nn.Module):
    """What the measure needs of a task: a model, and the loss of its outputs."""

    def __init__(self, model: nn.Module, losses, optim=None) -> None:
        super().__init__()
        self.model, self.losses, self.optim = model, losses, optim

    def objective(self, batch: Batch) -> tuple[Tensor, Tensor]:
        loss = self.losses(self.model(batch.inputs, batch.mask), batch) / batch.total
        return loss, loss

    def configure_gradient_clipping(self, optimiser) -> None:
        """None."""


def batch(inputs: Tensor, targets: Tensor) -> Batch:
    return Batch(inputs=inputs, targets=targets, mask=None, total=1)


NOTHING = batch(torch.zeros(1), torch.zeros(1))


def test_of_a_quadratic_loss_every_value_is_known():
    a, w = torch.tensor([1.0, 4.0]).double(), torch.tensor([3.0, 1.0]).double()
    task = Loss(Quadratic(a.tolist(), w.tolist()), lambda logits, batch: logits)
    _, gradients = gradients_of(task, NOTHING, RANDOM)
    found = smoothness(task, NOTHING, RANDOM, gradients, 0.1)
    g = a * w
    ends = [w - 0.1 * k / 4 * w.norm() * g / g.norm() for k in range(1, 5)]
    losses = [float((a * end.square()).sum() / 2) for end in ends]
    change = [float((a * end - g).norm() / g.norm()) for end in ends]
    assert found["loss_range"] == pytest.approx(max(losses) - min(losses), rel=1e-12)
    assert found["gradient_change"] == pytest.approx(max(change), rel=1e-12)
    # the Hessian is constant, so the ratio is the same at all distances
    assert found["smoothness"] == pytest.approx(float((a * g).norm() / g.norm() ** 2 * w.norm()), rel=1e-12)


def test_without_a_gradient_there_is_no_direction():
    task = Loss(Quadratic([1.0], [0.0]), lambda logits, batch: logits)
    _, gradients = gradients_of(task, NOTHING, RANDOM)
    assert all(math.isnan(value) for value in smoothness(task, NOTHING, RANDOM, gradients, 0.1).values())


def network(norm: str, rate: float):
    torch.manual_seed(0)
    model = MLP(factory(norm_config(norm)), Sizes("images", (1, 2, 3), outputs=3), depth=3, width=5).double().train()
    optim = SimpleNamespace(name="sgd", lr=rate, momentum=0.0, weight_decay=0.0)
    task = Loss(model, lambda logits, batch: nn.functional.cross_entropy(logits, batch.targets), optim)
    optimiser = torch.optim.SGD(
        [
            {"params": [p for p in model.parameters() if p.ndim >= 2]},
            {"params": [p for p in model.parameters() if p.ndim < 2]},
        ],
        lr=rate,
    )
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(8, 1, 2, 3, generator=generator, dtype=torch.float64)
    return task, optimiser, batch(inputs, torch.arange(8) % 3)


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_the_shift_equals_a_slow_formula(norm):
    """Each weight's gradient after a plain gradient step of all that comes before it in the network."""
    task, optimiser, examples = network(norm, 0.5)
    _, gradients = gradients_of(task, examples, RANDOM)
    found = shift(task, optimiser, examples, RANDOM, gradients)
    model, moved, cosines = task.model, [], []
    order = [name for name, _ in model.named_parameters()]  # an mlp's are registered by kind, not in the data's order
    depth = len(model.linears)
    layers = [[n for n in order if n.startswith((f"linears.{i}.", f"norms.{i}."))] for i in range(depth)]
    layers.append([n for n in order if n.startswith("head.")])
    assert sorted(names_of(layers)) == sorted(order)
    for i in range(1, len(layers)):
        there = copy.deepcopy(model)
        earlier = set(names_of(layers[:i]))
        with torch.no_grad():
            for name, p in there.named_parameters():
                if name in earlier:
                    p.sub_(0.5 * gradients[name])
        loss = nn.functional.cross_entropy(there(examples.inputs), examples.targets)
        (weight,) = (n for n in layers[i] if dict(there.named_parameters())[n].ndim == 2)
        (new,) = torch.autograd.grad(loss, dict(there.named_parameters())[weight])
        old = gradients[weight]
        moved.append(float((new - old).norm() / old.norm()))
        cosines.append(float((new * old).sum() / (new.norm() * old.norm())))
    assert found["shift"] == pytest.approx(sum(moved) / len(moved), rel=1e-10)
    assert found["shift_cosine"] == pytest.approx(sum(cosines) / len(cosines), rel=1e-10)


def names_of(lists: list[list[str]]) -> list[str]:
    return [name for names in lists for name in names]


def test_at_a_rate_of_zero_nothing_shifts():
    task, optimiser, examples = network("batch", 0.0)
    _, gradients = gradients_of(task, examples, RANDOM)
    found = shift(task, optimiser, examples, RANDOM, gradients)
    assert found["shift"] == 0
    assert found["shift_cosine"] == pytest.approx(1, abs=1e-12)


def test_looking_changes_nothing():
    task, optimiser, examples = network("batch", 0.1)
    before = copy.deepcopy(task.model.state_dict())
    random = torch.get_rng_state()
    look(task, optimiser, examples, 0.05)
    assert torch.equal(torch.get_rng_state(), random)
    for name, value in task.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in task.model.parameters())


def test_layers_come_in_the_order_of_their_calls_and_shared_parameters_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(3, 3, bias=False)
            self.first = nn.Linear(3, 3)
            self.never = nn.Linear(3, 3)
            self.again = nn.Linear(3, 3)
            self.again.weight = self.first.weight

        def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.last(self.again(self.first(inputs)))

    found = layers_in_order(Tied(), batch(torch.zeros(2, 3), torch.zeros(2)))
    assert found == [["first.weight", "first.bias"], ["again.bias"], ["last.weight"]]


def test_looks_are_spread_evenly_from_the_first_step():
    assert steps_of_looks(200, 4) == [0, 50, 100, 150]
    assert steps_of_looks(3, 3) == [0, 1, 2]
