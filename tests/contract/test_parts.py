"""A batch evaluated in parts gives what the whole batch gives, for every model and norm."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model_contract import CASES, SIZES, TRIED, model_class, node, norms_for, smaller
from torch import nn

from normlab.models.build import build_model
from normlab.models.parts import apart, in_parts
from normlab.norms.running import RunningNorm

COUPLED = {"evaluation": "batch"}
PARTED = [(model, sizes) for model, sizes in CASES if model_class(model).part is not None]


@contextmanager
def part_of(model: nn.Module, size: int | None):
    model.part = size
    calls: list[tuple[int, ...]] = []
    handle = model.register_forward_pre_hook(lambda _m, arguments: calls.append(tuple(arguments[0].shape)))
    try:
        yield calls
    finally:
        handle.remove()


def trained(norm: dict, model: str, sizes: str) -> nn.Module:
    torch.manual_seed(0)
    built = build_model(norm, smaller(model), SIZES[sizes]).double()
    with torch.no_grad():  # statistics that are not those of any batch
        for _ in range(3):
            built(drawn(16, sizes))
    return built.eval()


def drawn(count: int, sizes: str) -> torch.Tensor:
    like = SIZES[sizes]
    if like.kind == "tokens":
        return torch.randint(like.vocabulary, (count, *like.shape))
    return torch.randn(count, *like.shape, dtype=torch.float64)


def padded(lengths: list[int], steps: int) -> torch.Tensor:
    return torch.arange(steps) < torch.tensor(lengths)[:, None]


@TRIED
@pytest.mark.parametrize(("model", "sizes"), PARTED)
def test_parts_are_the_whole(model, sizes, tried):
    lengths = [3, 6, 1, 1, 2, 6, 5, 4, 2, 1, 3]
    inputs = drawn(len(lengths), sizes)
    masks = [None] if SIZES[sizes].kind == "images" else [None, padded(lengths, 6)]
    for name in norms_for(model, sizes, tried):
        built = trained(node("norm", name), model, sizes)
        for mask in masks:
            with torch.no_grad():
                whole = built(inputs, mask)
                with part_of(built, 4) as calls:
                    parts = in_parts(built, inputs, mask)
            assert [shape[0] for shape in calls] == [4, 4, 3], name
            real = torch.ones_like(whole, dtype=torch.bool)
            if mask is not None:
                assert [shape[1] for shape in calls] == [2, 4, 6]
                real &= mask[..., None] if whole.ndim == 3 else True
            assert parts.shape == whole.shape
            assert parts.dtype == whole.dtype
            torch.testing.assert_close(parts[real], whole[real], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(("model", "sizes"), PARTED)
def test_statistics_of_the_batch_keep_it_whole(model, sizes):
    inputs = drawn(11, sizes)
    for norm, training in (({**node("norm", "batch"), **COUPLED}, False), (node("norm", "batch"), True)):
        built = trained(norm, model, sizes).train(training)
        assert not apart(built)
        with torch.no_grad(), part_of(built, 4) as calls:
            in_parts(built, inputs, None)
        assert [shape[0] for shape in calls] == [11]
    norm = next(module for module in built.eval().modules() if isinstance(module, RunningNorm))
    assert apart(built)
    norm.collect()
    assert not apart(built)


def test_most_models_are_evaluated_in_parts():
    assert {model for model, _ in PARTED} == {"cnn", "lstm", "gru", "transformer"}


def test_other_networks_get_the_whole_batch():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    x = torch.randn(300, 2, 2)
    calls: list[int] = []
    net.register_forward_pre_hook(lambda _m, arguments: calls.append(len(arguments[0])))
    net.forward = lambda inputs, mask=None: nn.Sequential.forward(net, inputs)
    assert torch.equal(in_parts(net, x, None), net(x))
    assert calls == [300, 300]


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=40), size=st.integers(1, 9))
def test_any_lengths(lengths, size):
    built = trained(node("norm", "layer"), "transformer", "tokens")
    inputs, mask = drawn(len(lengths), "tokens"), padded(lengths, 6)
    with torch.no_grad():
        whole = built(inputs, mask)
        with part_of(built, size):
            parts = in_parts(built, inputs, mask)
    some = torch.tensor(lengths) > 0
    torch.testing.assert_close(parts[some], whole[some], rtol=1e-9, atol=1e-10)
