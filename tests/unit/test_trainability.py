"""How deep a network learns: the share of the entropy, and which weights are scaled."""

import math

import pytest
import torch
from torch import nn

from normlab.measures.trainability import learnt_share, scale_weights


@pytest.mark.parametrize(
    ("loss", "share"), [(0.0, 1.0), (1.0, 0.5), (2.0, 0.0), (5.0, 0.0), (math.nan, 0.0), (math.inf, 0.0)]
)
def test_the_learnt_share_of_an_entropy_of_two_nats(loss, share):
    assert learnt_share(loss, 2.0) == pytest.approx(share)


def test_only_matrices_before_the_output_layer_are_scaled():
    net = nn.ModuleDict({"hidden": nn.Linear(3, 3), "norm": nn.LayerNorm(3), "head": nn.Linear(3, 2)})
    before = {name: value.clone() for name, value in net.named_parameters()}
    scale_weights(net, 4.0)
    for name, value in net.named_parameters():
        torch.testing.assert_close(value, before[name] * (4.0 if name == "hidden.weight" else 1.0))
