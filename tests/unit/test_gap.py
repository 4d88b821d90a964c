"""The gap between training and evaluation, split into mode, statistics and data."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import normlab
from normlab.checking.lesson import train
from normlab.config.errors import InputError
from normlab.monitor.callback import NormMonitor
from normlab.monitor.gap import train_eval_gap


def test_the_parts_add_up_and_the_network_is_as_before():
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)).train()
    before = copy.deepcopy(net.state_dict())
    batches, others = ([(torch.randn(16, 6), torch.randn(16, 1)) for _ in range(3)] for _ in range(2))

    def loss(net, batch):
        return nn.functional.mse_loss(net(batch[0]), batch[1])

    drawn = torch.get_rng_state()
    gap = train_eval_gap(net, loss, batches, others)
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())
    with torch.no_grad():
        evaluated = sum(float(loss(net.eval(), batch)) for batch in others) / 3
    assert gap.evaluation == pytest.approx(evaluated)
    assert "running statistics" in str(gap)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "causes", "share"),
    [
        (0, (), ""),
        (1, ("shifted_data",), "data"),
        (2, ("stale_statistics",), "statistics"),
        (3, ("ordered_batches",), ""),
    ],
)
def test_a_planted_cause_has_the_largest_share_and_is_named(mistake, causes, share):
    monitor = NormMonitor(say=lambda _: None)
    training = train(mistake, monitor)
    assert monitor.report().causes[:1] == causes
    if share:
        gap = training.gap()
        parts = {"mode": gap.mode, "statistics": gap.statistics, "data": gap.data}
        assert max(parts, key=parts.__getitem__) == share


def test_a_loss_that_needs_more_than_the_batch_is_said():
    net = nn.Linear(2, 1)
    with pytest.raises(InputError, match="from a batch alone: KeyError"):
        normlab.train_eval_gap(net, lambda net, batch: batch["teacher"], [{}], [{}])
    with pytest.raises(InputError, match="at least one batch"):
        normlab.train_eval_gap(net, lambda net, batch: net(batch), [], [])
