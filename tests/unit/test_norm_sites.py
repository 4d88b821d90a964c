"""Norm sites of any network: each found once, as what it is and where it is, and the network as before."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import normlab
from normlab.config.schema import InputError
from normlab.sites.table import NormSite
from plain_nets import NETS, ChannelsFirst, T5Norm, trained

SHAPES = {"BC": (4, 8), "BCL": (4, 8, 5), "BCHW": (4, 8, 3, 2), "BCDHW": (3, 8, 2, 3, 2), "BTC": (4, 5, 8),
          "B…C": (4, 3, 5, 8)}  # fmt: skip


def only_site(norm: nn.Module, shape: tuple[int, ...], **options: Any) -> NormSite:
    (site,) = normlab.norm_sites(nn.Sequential(nn.Identity(), norm), torch.randn(shape), **options)
    return site


TORCH: list[tuple[Callable[[], nn.Module], str, str, str]] = [  # built, layout, norm, statistics over
    (lambda: nn.BatchNorm1d(8), "BC", "batch", "B"),
    (lambda: nn.BatchNorm1d(8), "BCL", "batch", "BL"),
    (lambda: nn.BatchNorm2d(8), "BCHW", "batch", "BHW"),
    (lambda: nn.BatchNorm3d(8), "BCDHW", "batch", "BDHW"),
    (lambda: nn.SyncBatchNorm(8), "BCHW", "batch", "BHW"),
    (lambda: nn.LazyBatchNorm2d(), "BCHW", "batch", "BHW"),
    (lambda: nn.LayerNorm(8), "BC", "layer", "C"),
    (lambda: nn.LayerNorm(8), "BTC", "layer", "C"),
    (lambda: nn.LayerNorm(8), "B…C", "layer", "C"),
    (lambda: nn.GroupNorm(4, 8), "BC", "group", "C"),
    (lambda: nn.GroupNorm(4, 8), "BCHW", "group", "CHW"),
    (lambda: nn.InstanceNorm1d(8), "BCL", "instance", "L"),
    (lambda: nn.InstanceNorm2d(8, affine=True), "BCHW", "instance", "HW"),
    (lambda: nn.InstanceNorm3d(8), "BCDHW", "instance", "DHW"),
    (lambda: nn.RMSNorm(8), "BTC", "rms", "C"),
]


@pytest.mark.parametrize(("build", "layout", "norm", "over"), TORCH)
def test_norms_of_torch(build: Callable[[], nn.Module], layout: str, norm: str, over: str) -> None:
    site = only_site(build(), SHAPES[layout])
    assert (site.path, site.norm, site.layout, site.channels, site.over) == ("1", norm, layout, 8, over)
    assert site.calls == 1
    assert not site.obstacle
    assert not site.trained


class Scaled(nn.Module):
    """RMS norm with one gain for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * 8**0.5 * self.g


class InFloat32(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.float()).type_as(input)


class BatchNormAct(nn.BatchNorm2d):
    """A pair of norm and activation."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.drop = nn.Identity()
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class Frozen(nn.Module):
    """Batch norm that never leaves eval mode."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)):
            self.register_buffer(name, torch.full((width,), value))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


class Composed(nn.Module):
    """A layer norm with its gain beside it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(width, elementwise_affine=False)
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(x) * self.gamma


OTHERS: list[tuple[nn.Module, str, str, str]] = [
    (T5Norm(8), "BTC", "rms", "C"),
    (T5Norm(8, offset=1.0), "B…C", "rms", "C"),
    (Scaled(), "BTC", "rms", "C"),
    (InFloat32(8), "BTC", "layer", "C"),
    (Composed(8), "BTC", "layer", "C"),
    (ChannelsFirst(8), "BCL", "layer_channel", "C"),
    (BatchNormAct(8), "BCHW", "batch", "BHW"),
    (Frozen(8), "BCHW", "frozen_batch", ""),
]


@pytest.mark.parametrize(("norm", "layout", "name", "over"), OTHERS, ids=[type(case[0]).__name__ for case in OTHERS])
def test_norms_under_other_names_are_known_by_what_they_compute(norm: nn.Module, layout: str, name: str, over: str):
    site = only_site(norm, SHAPES[layout])
    assert (site.norm, site.layout, site.channels, site.over) == (name, layout, 8, over)
    assert not site.obstacle


@pytest.mark.parametrize("eps", [1e-3, 1e-5, 1e-6, 1e-12])
def test_eps_is_found(eps: float) -> None:
    assert dict(only_site(T5Norm(8, eps), SHAPES["BTC"]).options)["eps"] == eps


class Scale(nn.Module):
    """A gain alone."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Response(nn.Module):
    """Global response norm: what divides an example's channels is the mean of their sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(dim=1, keepdim=True)
        return x + self.weight * x * size / (size.mean(-1, keepdim=True) + 1e-6)


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("module", [Scale(), Response(), Same(), nn.Dropout(), nn.Softmax(-1), nn.Linear(8, 8)])
def test_what_is_no_norm_is_no_site_even_behind_one(module: nn.Module) -> None:
    sites = normlab.norm_sites(nn.Sequential(nn.LayerNorm(8), module), torch.randn(4, 5, 8))
    assert [site.path for site in sites] == ["0"]


class Squared(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).square()


class OtherNorm(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.abs().amax(-1, keepdim=True)


class AddedNorm(nn.Module):
    """A norm of a sum."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.layer_norm(x + y, x.shape[-1:])


class Odd(nn.Module):
    """Everything that can't be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.function = nn.Linear(8, 8)
        self.scripted = torch.jit.script(nn.LayerNorm(8))
        self.unreached = nn.BatchNorm1d(8)
        self.squared = Squared(8)
        self.other_norm = OtherNorm()
        self.added_norm = AddedNorm()
        self.wide = nn.LayerNorm((5, 8))
        self.neighbours = nn.LocalResponseNorm(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squared(self.scripted(F.layer_norm(self.function(x), (8,))))
        return self.neighbours(self.wide(self.added_norm(self.other_norm(x), x)))


def test_what_cannot_be_replaced_is_listed_with_the_reason() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scripting is deprecated
        net = Odd()
    sites = normlab.norm_sites(net, torch.randn(4, 5, 8))
    expected = {
        "scripted": "scripted", "unreached": "doesn't reach it", "squared": "own forward", "other_norm": "not known",
        "added_norm": "more than one tensor", "wide": "2 axes", "neighbours": "neighbours", "": "as a function",
    }  # fmt: skip
    found = {site.path: site for site in sites}
    for path, reason in expected.items():
        assert reason in found.pop(path).obstacle
    assert set(found) <= {"added_norm"}
    assert not sites.swappable
    with pytest.raises(InputError, match="can't be replaced"):
        normlab.swap_norms(net, "layer", torch.randn(4, 5, 8))
    named = normlab.norm_sites(net, torch.randn(4, 5, 8), also={OtherNorm: "rms"})
    assert named["other_norm"].norm == "rms"
    assert not named["other_norm"].obstacle


@pytest.mark.parametrize("name", NETS)
def test_all_sites_of_a_network(name: str) -> None:
    net, x = trained(name)
    sites = normlab.norm_sites(net, x)
    assert len(sites) == len(sites.swappable) == NETS[name][2]
    assert all(site.trained for site in sites if site.called not in ("InstanceNorm3d", "ChannelsFirst"))
    assert max(map(len, str(sites).splitlines())) <= 100


def test_a_shared_module_is_one_site_with_two_calls() -> None:
    site = normlab.norm_sites(*trained("volumes"))["second.1"]
    assert (site.path, site.shared, site.calls) == ("first.1", ("second.1",), 2)


def test_layouts_are_seen() -> None:
    sites = normlab.norm_sites(*trained("transformer"))
    assert [site.layout for site in sites] == [*["BTC", "B…C", "BTC"] * 2, "BTC"]
    times_first = nn.TransformerEncoderLayer(8, 2, 16)
    net = nn.Sequential(nn.Unflatten(1, (5, 8)), Times(times_first))
    assert {site.layout for site in normlab.norm_sites(net, torch.randn(4, 40))} == {"TBC"}


class Times(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


class Noisy(nn.Module):
    """Changes what a forward pass can change, and its input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("steps", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        self.steps = self.steps + 1
        x += torch.randn(8) + random.random() + float(np.random.rand())
        return F.batch_norm(self.norm(x), self.norm.running_mean, self.norm.running_var, training=True)


def test_the_network_and_all_random_states_are_as_before() -> None:
    net, x = Noisy().train(), torch.randn(4, 8)
    net.norm.eval()
    steps, before, kept = net.steps, {k: v.clone() for k, v in net.state_dict().items()}, x.clone()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    sites = normlab.norm_sites(net, x)
    assert [(site.path, site.called) for site in sites] == [("norm", "BatchNorm1d"), ("", "F.batch_norm")]
    assert net.steps is steps
    assert float(steps) == 0.0
    assert net.training
    assert not net.norm.training
    assert torch.equal(x, kept)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_an_example_is_a_tensor_a_tuple_a_dict_or_a_function() -> None:
    net = AddedNorm()
    net.norm = nn.LayerNorm(8)
    x = torch.randn(2, 8)
    for example in ((x, x), {"x": x, "y": x}, lambda net: net(x, y=x)):
        assert len(normlab.norm_sites(net, example)) == 2
    with pytest.raises(InputError, match=r"AddedNorm does not accept the example: TypeError: .*missing"):
        normlab.norm_sites(net, x)
