"""The ladder of learning rates: on a quadratic, whose ceiling is known."""

import math

import pytest
import torch
from torch import nn

from normlab.config.schema import OptimConfig, Sizes
from normlab.data.batch import Batch
from normlab.data.load import Data
from normlab.data.splits import Examples
from normlab.measures.learning_rate_ceiling import highest
from normlab.session.steps import entropy_of_targets, last_loss
from normlab.tasks.task import Task

CURVATURE = 8.0


class Quadratic(Task):
    """½ a w², which gradient descent leaves for infinity at rates above 2 / a."""

    def losses(self, logits, batch):
        return 0.5 * CURVATURE * logits.square().sum() * len(batch.inputs)

    def collect(self, logits, batch, loss):
        raise NotImplementedError

    def metrics(self, split):
        raise NotImplementedError

    def score(self, logits, batch):
        raise NotImplementedError


class Weight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))

    def forward(self, inputs, mask):
        return self.w


def loss_of(rate: float, steps: int = 20) -> float:
    optim = OptimConfig(name="sgd", lr=rate, weight_decay=0.0, momentum=0.0)
    task = Quadratic(Weight(), Sizes("images", (1, 1, 1), 2), optim, {})
    return last_loss(task, [Batch(torch.zeros(3, 1), torch.zeros(3), None, 3)] * steps)


def test_the_mean_of_the_last_fifth_is_that_of_the_recursion():
    """w ← (1 - η a) w."""
    rate = 0.05
    losses = [0.5 * CURVATURE * (1 - rate * CURVATURE) ** (2 * step) for step in range(20)]
    assert loss_of(rate) == pytest.approx(sum(losses[-4:]) / 4)
    assert loss_of(rate, steps=5) == pytest.approx(losses[4])


def test_the_ceiling_of_a_quadratic_is_twice_the_inverse_curvature():
    first = 0.5 * CURVATURE
    tried = []

    def loss_at(rung: int) -> float:
        tried.append(rung)
        return loss_of(2.0**rung / 64)

    rung, loss = highest(loss_at, 8, 0.9 * first)
    assert 2.0**rung / 64 == 1 / CURVATURE  # 2 / a only swings to and fro
    assert loss == pytest.approx(0, abs=1e-12)
    assert tried == [7, 6, 5, 4, 3]


def test_a_loss_that_overflows_fails():
    assert math.isnan(loss_of(1e30))
    assert highest(lambda _: math.nan, 3, math.inf) is None


def test_the_entropy_of_the_targets():
    targets = torch.tensor([0, 0, 1, 2])
    split = Examples(torch.zeros(4, 1, 1, 1, dtype=torch.uint8), targets, mean=torch.zeros(1), std=torch.ones(1))
    data = Data("four", Sizes("images", (1, 1, 1), outputs=4), {"train": split}, "", "")
    assert entropy_of_targets(data, 2) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(4))
