"""NormMonitor used in odd ways: norms replaced under it, nothing to look at, wrong arguments, remedies that are run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import normlab
from normlab.config.errors import InputError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def train(network: nn.Module, steps: int, examples: int = 32) -> Tensor:
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    x = torch.randn(examples, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(steps):
        network.train()
        network(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            network.eval()(x)
    return x


def test_norms_that_were_replaced_since_say_nothing() -> None:
    said: list[str] = []
    network = net()
    monitor = normlab.NormMonitor(say=said.append).watch(network)
    x = train(network, 20)
    normlab.swap_norms(network, "layer", x)  # in eval mode, where the old batch norm stays
    train(network, 20)
    report = monitor.report()
    assert not report.causes
    assert [site.norm for site in report.seen.sites.values()] == ["layer"]
    assert said == ["NormMonitor: the network's norms were replaced before step 21: what was seen earlier is dropped"]


def test_the_remedy_of_few_examples_can_be_run() -> None:
    network = net()
    monitor = normlab.NormMonitor(say=lambda _: None).watch(network)
    x = train(network, 3, examples=2)
    (remedy,) = [one.remedy for one in monitor.report().diagnoses if one.cause == "few_examples"]
    names: dict[str, Any] = {"net": network, "normlab": normlab, "example": x}
    exec(remedy, names)
    assert isinstance(names["net"], nn.Module)
    assert {site.norm for site in normlab.norm_sites(names["net"], x)} == {"group"}


def test_nothing_is_found_without_a_look() -> None:
    network = net()
    monitor = normlab.NormMonitor(say=lambda _: None).watch(network)
    with torch.no_grad():
        network.eval()(torch.randn(4, 8))
    assert str(monitor.report()).endswith("nothing found, but no norm was called in a training step that was looked at")


def test_several_optimisers_are_taken_and_what_is_none_is_refused() -> None:
    network = net()
    parts = [torch.optim.SGD(network[i].parameters(), 0.1, weight_decay=i / 10) for i in (1, 3)]
    monitor = normlab.NormMonitor().watch(network, parts)
    assert monitor.report().seen.sites["1"].decay == 0.1
    for wrong in (network.parameters(), [network], "adam"):
        with pytest.raises(InputError, match="takes an optimizer after the network"):
            normlab.NormMonitor().watch(network, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"every": 2.5}, {"every": "10"}, {"budget": "2%"}, {"budget": None}])
def test_options_of_another_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"NormMonitor\("):
        normlab.NormMonitor(**options)


@pytest.mark.parametrize(("loss", "found"), [(None, "a NoneType"), (torch.ones(3), r"a tensor \[3\]")])
def test_damage_takes_a_number_as_loss(loss: Any, found: str) -> None:
    x = torch.randn(4, 8)
    with pytest.raises(InputError, match=f"the loss of a batch must be a number, not {found}"):
        normlab.damage(net(), "layer", x, [x], lambda net, batch: loss)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_running_variances_that_make_no_sense_do_not_stop_the_monitor(value: float) -> None:
    said: list[str] = []
    network = net()
    (norm,) = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    norm.running_var.fill_(value)
    norm.momentum = 0.0
    monitor = normlab.NormMonitor(say=said.append).watch(network)
    train(network, 20)
    assert monitor.report().seen.steps == 20
    assert not monitor.failed
