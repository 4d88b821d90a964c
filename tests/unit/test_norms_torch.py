"""Norms against PyTorch's own, where PyTorch has one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from norm_sites import SIGNAL, SITES, VOLUME, Site, build
from normlab.norms.base import Norm

BC, BCHW, BTC, RECURRENT, _ = SITES


def time_last(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """A module for [B, C, T], on [B, T, C]."""
    return lambda x: module(x.transpose(1, 2)).transpose(1, 2)


def agree(norm: Norm, theirs: Callable[[Tensor], Tensor], module: nn.Module, site: Site, training: bool) -> None:
    """Outputs, gradients and buffers over several forward passes."""
    module.double().train(training).zero_grad()
    norm.train(training)
    with torch.no_grad():
        for name, parameter in (("weight", norm.gain), ("bias", norm.bias)):
            if parameter is not None:
                getattr(module, name).copy_(parameter)
        if "running_mean" in dict(module.named_buffers()):
            module.running_mean.copy_(norm.running_mean)
            module.running_var.copy_(norm.running_var)
    for seed in range(3):
        x, z = (site.input(seed).requires_grad_() for _ in range(2))
        y, w = norm(x), theirs(z)
        torch.testing.assert_close(y, w, rtol=1e-12, atol=1e-12)
        (y * site.input(9)).sum().backward()
        (w * site.input(9)).sum().backward()
        torch.testing.assert_close(x.grad, z.grad, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(norm.gain.grad, module.weight.grad, rtol=1e-11, atol=1e-11)
    if norm.bias is not None:
        torch.testing.assert_close(norm.bias.grad, module.bias.grad, rtol=1e-11, atol=1e-11)
    for name, buffer in norm.named_buffers():
        torch.testing.assert_close(buffer.view(-1), getattr(module, name).view(-1).to(buffer.dtype), msg=name)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(training: bool, momentum: float | None) -> None:
    modules = ((BC, nn.BatchNorm1d), (SIGNAL, nn.BatchNorm1d), (BCHW, nn.BatchNorm2d), (VOLUME, nn.BatchNorm3d))
    for site, module in modules:
        theirs = module(site.channels, momentum=momentum)
        agree(build("batch", site, momentum=momentum), theirs, theirs, site, training)
    theirs = nn.BatchNorm1d(BTC.channels, momentum=momentum)
    agree(build("batch", BTC, momentum=momentum), time_last(theirs), theirs, BTC, training)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_that_evaluates_with_the_batch(training: bool) -> None:
    theirs = nn.BatchNorm2d(BCHW.channels, track_running_stats=False)
    ours = build("batch", BCHW, evaluation="batch").train(training)
    before = ours.running_mean.clone()
    with torch.no_grad():
        theirs.double().weight.copy_(ours.gain)
        theirs.bias.copy_(ours.bias)
    torch.testing.assert_close(ours(BCHW.input()), theirs(BCHW.input()), rtol=1e-12, atol=1e-12)
    assert torch.equal(before, ours.running_mean) != training


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(bias: bool) -> None:
    for site in (BC, BTC, RECURRENT):
        theirs = nn.LayerNorm(site.channels, bias=bias)
        agree(build("layer", site, bias=bias), theirs, theirs, site, True)
        agree(build("layer_channel", site, bias=bias), theirs, theirs, site, True)


def test_layer_norm_in_images() -> None:
    for site in (SIGNAL, BCHW, VOLUME):
        theirs = nn.GroupNorm(1, site.channels)
        agree(build("layer", site), theirs, theirs, site, True)
        by_pixel = nn.LayerNorm(site.channels)

        def channels_first(x: Tensor, by_pixel: nn.Module = by_pixel) -> Tensor:
            return by_pixel(x.movedim(1, -1)).movedim(-1, 1)

        agree(build("layer_channel", site), channels_first, by_pixel, site, True)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm(groups: int) -> None:
    theirs = nn.GroupNorm(groups, BC.channels)
    agree(build("group", BC, groups=groups), theirs, theirs, BC, True)
    for site in (SIGNAL, BCHW, VOLUME):
        theirs = nn.GroupNorm(groups, site.channels)
        agree(build("group", site, groups=groups), theirs, theirs, site, True)
    theirs = nn.GroupNorm(groups, BTC.channels)
    agree(build("group", BTC, groups=groups), time_last(theirs), theirs, BTC, True)


def test_parts_of_layer_norm_are_groups() -> None:
    theirs = nn.GroupNorm(4, BC.channels)
    agree(build("layer", BC, parts=4), theirs, theirs, BC, True)
    theirs = nn.GroupNorm(4, BCHW.channels)
    agree(build("layer", BCHW, parts=4), theirs, theirs, BCHW, True)


def test_instance_norm() -> None:
    for site, module in ((SIGNAL, nn.InstanceNorm1d), (BCHW, nn.InstanceNorm2d), (VOLUME, nn.InstanceNorm3d)):
        theirs = module(site.channels, affine=True)
        agree(build("instance", site), theirs, theirs, site, True)
    along_time = nn.InstanceNorm1d(BTC.channels, affine=True)
    agree(build("instance", BTC), time_last(along_time), along_time, BTC, True)


def test_rms_norm() -> None:
    for site in (BC, BTC, RECURRENT):
        theirs = nn.RMSNorm(site.channels, eps=1e-5)
        agree(build("rms", site), theirs, theirs, site, True)
