"""The compiled kernel of batch norm over padded sequences against its plain twin and a formula of its own."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_kernels_rows import assert_twins, results
from torch import Tensor

from normlab.kernels import rows
from normlab.norms.batch import BatchNorm
from normlab.norms.frozen_batch import FrozenBatchNorm

MODES = [("training", "running"), ("evaluation", "running"), ("evaluation", "batch")]


def twins(channels: int, mode: tuple[str, str] = MODES[0], bias: bool = True, dtype=torch.float64) -> list[BatchNorm]:
    """A norm with random parameters and statistics by its compiled kernel, and the same by its formula."""
    when, evaluation = mode
    compiled = BatchNorm(channels, "BTC", positions=64, bias=bias, evaluation=evaluation).to(dtype)
    compiled.train(when == "training")
    assert compiled.kernel == "compiled"
    with torch.no_grad():
        for value in (*compiled.parameters(), compiled.running_mean, compiled.running_var):
            value.add_(0.3 * torch.randn_like(value).abs())
    plain = copy.deepcopy(compiled)
    plain.kernel = "plain"
    return [compiled, plain]


def exact(norm: BatchNorm, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """y in training, and the running statistics after it, of one real row after the other in float64."""
    gain, bias, mean, var = (
        None if value is None else value.detach().double()
        for value in (norm.gain, norm.bias, norm.running_mean, norm.running_var)
    )
    real, y = x.detach().double()[mask], torch.zeros_like(x, dtype=torch.float64)
    center = real.mean(0)
    spread = (real - center).square().sum(0)
    y[mask] = (real - center) / (spread / len(real) + norm.eps).sqrt() * gain + (0 if bias is None else bias)
    moved = norm.momentum
    return y, (1 - moved) * mean + moved * center, (1 - moved) * var + moved * spread / (len(real) - 1)


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_twin(mode: tuple[str, str], bias: bool) -> None:
    torch.manual_seed(0)
    norms = twins(48, mode, bias)
    for share in (0.6, 0.1, 1.1):
        x, mask = 3 + torch.randn(5, 7, 48, dtype=torch.float64), torch.rand(5, 7) < share
        assert_twins(norms, x, 1e-12, mask)
        for ours, theirs in zip(norms[0].buffers(), norms[1].buffers(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(MODES),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 150),
    st.floats(0, 1),
    st.integers(0, 9),
)
def test_equals_the_twin_at_any_size(mode, examples, positions, channels, share, seed) -> None:
    """Sizes that don't fill vectors, tiles and blocks, masks without any real row."""
    torch.manual_seed(seed)
    norms = twins(channels, mode)
    x = torch.randn(examples, positions, channels, dtype=torch.float64)
    assert_twins(norms, x, 1e-11, torch.rand(x.shape[:-1]) < share)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_equals_the_formula_of_the_real_rows(dtype: torch.dtype, bias: bool, offset: float) -> None:
    torch.manual_seed(0)
    norm, _ = twins(130, bias=bias, dtype=dtype)
    x, mask = offset + 2 * torch.randn(40, 30, 130, dtype=dtype), torch.rand(40, 30) < 0.7
    wanted = exact(norm, x, mask)
    rounding = 8 * torch.finfo(dtype).eps * max(1.0, offset)  # x itself has no more digits
    for found, expected in zip((norm(x, mask), norm.running_mean, norm.running_var), wanted, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=rounding, atol=rounding)


def hostile(kind: str) -> Tensor:
    """[4096, 20] in float32, where sums that start from the wrong value cancel."""
    x = torch.randn(4096, 20)
    if kind == "far from 0":
        x += 1e4
    if kind == "one outlier first":
        x[0] = 1e4
    if kind == "a step":
        x[100:] += 1e4
    if kind == "a slope":
        x += torch.arange(4096.0)[:, None]
    return x


@pytest.mark.parametrize("kind", ["near 0", "far from 0", "one outlier first", "a step", "a slope"])
def test_statistics_err_no_more_than_pytorch_s(kind: str) -> None:
    torch.manual_seed(0)
    x = hostile(kind)
    norm = BatchNorm(20, "BTC", positions=64)
    theirs = torch.nn.BatchNorm1d(20)
    theirs(x)
    norm(x.view(64, 64, 20), torch.ones(64, 64, dtype=torch.bool))
    mean, var = 0.1 * x.double().mean(0), 0.9 + 0.1 * x.double().var(0)

    def errors(mean_found: Tensor, var_found: Tensor) -> list[float]:
        return [float(((a - b) / b).abs().max()) for a, b in ((mean_found, mean), (var_found, var))]

    ours = errors(norm.running_mean, norm.running_var)
    for error, other in zip(ours, errors(theirs.running_mean, theirs.running_var), strict=True):
        assert error < max(2 * other, 1e-6)


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
def test_gradients_err_as_little_as_pytorch_s(mode: tuple[str, str]) -> None:
    """Against the twin in float64; many rows, whose gradients of gain and bias are sums of many."""
    torch.manual_seed(0)
    compiled, plain = twins(24, mode, dtype=torch.float32)
    x, mask = torch.randn(256, 32, 24), torch.rand(256, 32) < 0.7
    wanted = results(copy.deepcopy(plain).double(), x.double(), mask)
    for found, other, true in zip(results(compiled, x, mask), results(plain, x, mask), wanted, strict=True):
        error, theirs = float((found - true).norm()), float((other - true).norm())
        assert error < max(2 * theirs, 3e-7 * float(true.norm()))


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("real", [0, 1, 5])
def test_gradients_are_the_differences_twice(mode: tuple[str, str], bias: bool, real: int) -> None:
    """Also of too few real rows, whose statistics are constants."""
    torch.manual_seed(0)
    compiled, _ = twins(3, mode, bias)
    compiled.momentum = 1e-300  # differences need statistics that stay
    mask = (torch.arange(6) < real).view(2, 3)
    names = [name for name, _ in compiled.named_parameters()]

    def call(*values: Tensor) -> Tensor:
        for name, value in zip(names, values[1:], strict=True):
            compiled._parameters[name] = value  # as nn.Parameter would detach it
        return compiled(values[0], mask)

    values = [torch.randn(2, 3, 3, dtype=torch.float64), *(parameter.detach() for parameter in compiled.parameters())]
    values = [value.requires_grad_() for value in values]
    assert torch.autograd.gradcheck(call, values)
    assert torch.autograd.gradgradcheck(call, values)


@pytest.mark.parametrize("gained", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("momentum", [0.1, 0.0, None])
def test_gain_and_bias_may_be_absent(gained: bool, biased: bool, momentum: float | None) -> None:
    torch.manual_seed(0)
    x, mask = torch.randn(4, 5, 7, dtype=torch.float64, requires_grad=True), torch.rand(4, 5) < 0.6
    gain, bias = (torch.randn(7, dtype=torch.float64, requires_grad=True) for _ in range(2))
    running = rows.Running(*torch.rand(2, 7, dtype=torch.float64), momentum)
    given = [gain if gained else None, bias if biased else None]
    inputs = [x, *(value for value in given if value is not None)]
    before = running.mean.clone(), running.variance.clone()
    y = rows.standardise_batch(x, mask, *given, running, eps=1e-5)
    assert (momentum == 0.1) != torch.equal(running.mean, before[0])
    real = x[mask]
    mean, var = before if momentum is None else (real.mean(0), real.var(0, correction=0))
    inside = (real - mean) / (var + 1e-5).sqrt() * (gain if gained else 1) + (bias if biased else 0)
    expected = torch.zeros_like(x).masked_scatter(mask[..., None], inside)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn_like(y)
    pairs = (torch.autograd.grad((values * weights).sum(), inputs) for values in (y, expected))
    for ours, theirs in zip(*pairs, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
@pytest.mark.parametrize("content", [math.nan, math.inf, 1e30, -7.0])
def test_padding_may_hold_anything(mode: tuple[str, str], content: float) -> None:
    """In x and, from what comes after the norm, in the gradient of y."""
    torch.manual_seed(0)
    mask = torch.rand(6, 9) < 0.6
    x = torch.randn(6, 9, 20, dtype=torch.float64)
    dy = torch.randn_like(x)

    def outcome(filled: float) -> list[Tensor]:
        torch.manual_seed(1)
        norm, _ = twins(20, mode)
        inputs = [torch.where(mask[..., None], x, filled).requires_grad_(), *norm.parameters()]
        y, above = norm(inputs[0], mask), torch.where(mask[..., None], dy, filled).requires_grad_()
        once = torch.autograd.grad(y, inputs, above, retain_graph=True)
        found = torch.autograd.grad(y, inputs, above, create_graph=True)
        again = torch.autograd.grad([f.square().sum() for f in found], [*inputs[:2], above])
        return [y, *once, *found, *again, *norm.buffers()]

    for found, expected in zip(outcome(content), outcome(0.0), strict=True):
        assert torch.equal(found, expected)
    y, dx = outcome(content)[:2]
    assert not y[~mask].any()
    assert not dx[~mask].any()


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
@pytest.mark.parametrize("real", [0, 1])
def test_too_few_real_rows_use_and_keep_the_running_statistics(mode: tuple[str, str], real: int) -> None:
    torch.manual_seed(0)
    norms = twins(12, mode)
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1, :real] = True
    before = [buffer.clone() for buffer in norms[0].buffers()]
    x = torch.randn(3, 4, 12, dtype=torch.float64)
    assert_twins(norms, x, 1e-12, mask)
    assert all(torch.equal(now, then) for now, then in zip(norms[0].buffers(), before, strict=True))
    scale, shift = norms[0].running_affine(0, 1)
    torch.testing.assert_close(norms[0](x, mask), (x * scale + shift) * mask[..., None], rtol=1e-12, atol=1e-12)


def test_nan_stays_visible_and_in_its_channel() -> None:
    norm, _ = twins(20)
    x, mask = torch.randn(4, 5, 20, dtype=torch.float64), torch.ones(4, 5, dtype=torch.bool)
    x[1, 3, 6] = math.nan
    y = norm(x, mask)
    assert y[..., 6].isnan().all()
    assert y[..., [*range(6), *range(7, 20)]].isfinite().all()


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
def test_constant_huge_and_tiny_inputs(mode: tuple[str, str]) -> None:
    torch.manual_seed(0)
    shape, mask = (5, 70, 12), torch.rand(5, 70) < 0.7
    for x in (torch.zeros(shape), torch.full(shape, 3.0), torch.full(shape, 1e-30), 1e15 * torch.randn(shape)):
        for found, expected in zip(
            *(results(norm, x, mask) for norm in twins(12, mode, dtype=torch.float32)), strict=True
        ):
            assert found.isfinite().all()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.abs().max())))


def test_inputs_that_are_not_contiguous() -> None:
    torch.manual_seed(0)
    norms = twins(24)
    mask = torch.rand(6, 4).t() < 0.6
    assert_twins(norms, torch.randn(4, 6, 48, dtype=torch.float64)[..., ::2], 1e-12, mask)
    assert_twins(norms, torch.randn(6, 4, 24, dtype=torch.float64).transpose(0, 1), 1e-12, mask)
    assert_twins(norms, torch.randn(4, 6, 24, dtype=torch.float64), 1e-12, (torch.arange(6) < 4).expand(4, 6))


def test_running_statistics_that_are_parts_of_a_larger_tensor() -> None:
    norms = twins(8)
    wide = torch.stack([norms[0].running_mean, norms[0].running_var], 1)
    norms[0].running_mean, norms[0].running_var = wide.unbind(1)
    assert_twins(norms, torch.randn(4, 6, 8, dtype=torch.float64), 1e-12, torch.rand(4, 6) < 0.6)
    torch.testing.assert_close(wide, torch.stack([norms[1].running_mean, norms[1].running_var], 1))


@pytest.mark.parametrize("mode", MODES, ids=" ".join)
def test_the_same_bits_every_time_and_other_threads_round_only(mode: tuple[str, str]) -> None:
    torch.manual_seed(0)
    compiled, _ = twins(132, mode, dtype=torch.float32)
    x, mask, threads = torch.randn(70, 12, 132), torch.rand(70, 12) < 0.6, torch.get_num_threads()

    def outcome() -> list[Tensor]:
        norm = copy.deepcopy(compiled)
        return [*results(norm, x, mask), *norm.buffers()]

    found = {}
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found[number] = outcome()
            assert all(torch.equal(a, b) for a, b in zip(found[number], outcome(), strict=True))
    finally:
        torch.set_num_threads(threads)
    for number in (2, 3):
        for one, other in zip(found[1], found[number], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


def test_graphs_do_not_hold_the_running_statistics() -> None:
    """A pass in training moves them before the backward pass of an earlier evaluation, which used them."""
    norm, plain = twins(8, MODES[1])
    x, mask = torch.randn(4, 6, 8, dtype=torch.float64), torch.rand(4, 6) < 0.6
    expected = results(plain, x, mask)
    x.requires_grad_()
    y = norm(x, mask)
    norm.train()(x, mask)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y)
    found = torch.autograd.grad((y * weights).sum(), [x, *norm.parameters()])
    for ours, theirs in zip(found, expected[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_graph_that_holds_the_running_statistics_says_that_they_moved() -> None:
    norm, _ = twins(8)
    weight = torch.ones(8, dtype=torch.float64, requires_grad=True)
    held = (weight * norm.running_mean).sum()
    norm(torch.randn(4, 6, 8, dtype=torch.float64), torch.ones(4, 6, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        held.backward()


def test_no_gradient_is_made_that_nobody_wants() -> None:
    norm, _ = twins(8)
    norm.gain.requires_grad_(False)
    x, mask = torch.randn(4, 6, 8, dtype=torch.float64, requires_grad=True), torch.rand(4, 6) < 0.6
    norm(x, mask).sum().backward()
    assert norm.gain.grad is None
    assert norm.bias.grad is not None
    assert x.grad is not None
    with torch.inference_mode():
        assert norm(torch.randn(4, 6, 8, dtype=torch.float64), mask).shape == (4, 6, 8)
    with torch.no_grad():
        assert not norm(x, mask).requires_grad


def test_where_the_kernel_cannot_be_used_the_formula_is() -> None:
    """Under vmap over seeds, forward mode, export, in half precision and in other dtypes than the parameters'."""
    torch.manual_seed(0)
    compiled, plain = twins(8, MODES[1], dtype=torch.float32)
    x, mask = torch.randn(4, 6, 8), torch.rand(4, 6) < 0.6
    expected = plain(x, mask)
    stacked = {name: torch.stack([value, value]) for name, value in compiled.named_parameters()}
    both = torch.func.vmap(lambda values: torch.func.functional_call(compiled, values, (x, mask)))(stacked)
    torch.testing.assert_close(both, torch.stack([expected, expected]))
    _, tangent = torch.func.jvp(lambda x: compiled(x, mask), (x,), (torch.ones_like(x),))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        found = torch.autograd.forward_ad.unpack_dual(compiled(dual, mask)).tangent
        torch.testing.assert_close(found, tangent)
    exported = torch.export.export(compiled, (x, mask))
    assert not any("normlab" in str(node.target) for node in exported.graph.nodes)
    torch.testing.assert_close(exported.module()(x, mask), expected)
    half = compiled(x.bfloat16(), mask)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.05, atol=0.05)
    torch.testing.assert_close(compiled(x, mask.to(torch.uint8)), expected)


@pytest.mark.parametrize("options", [{"nbs": 2}, {"momentum": None}, {"pool": "positions"}])
def test_other_statistics_than_one_set_are_the_formula_s(options: dict) -> None:
    torch.manual_seed(0)
    norm = BatchNorm(8, "BTC", positions=6, **options).double()
    plain = copy.deepcopy(norm)
    plain.kernel = None
    x, mask = torch.randn(4, 6, 8, dtype=torch.float64), torch.rand(4, 6) < 0.7
    assert torch.equal(norm(x, mask), plain(x, mask))
    for ours, theirs in zip(norm.buffers(), plain.buffers(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_batch_without_padding_is_left_to_pytorch() -> None:
    compiled, plain = twins(8, dtype=torch.float32)
    x = torch.randn(4, 6, 8)
    expected = torch.nn.functional.batch_norm(
        x.flatten(0, 1), None, None, plain.gain, plain.bias, training=True, eps=1e-5
    )
    assert torch.equal(compiled(x), expected.view_as(x))


def test_only_sites_that_gain_by_it_have_a_kernel() -> None:
    class Own(BatchNorm):
        def normalise(self, x: Tensor, mask: Tensor | None, step: int | None) -> Tensor:
            return x + 1

    assert BatchNorm(8, "BTC").kernel == "compiled"
    assert FrozenBatchNorm(8, "BTC").kernel == "compiled"
    assert BatchNorm(8, "BTC", positions=5, pool="positions").kernel is None
    assert BatchNorm(8, "BC").kernel is BatchNorm(8, "BC", positions=5).kernel is None
    assert BatchNorm(8, "BCHW").kernel is BatchNorm(8, "BCL").kernel is None
    own = Own(8, "BTC")
    assert own.kernel is None
    assert torch.equal(own(torch.zeros(1, 2, 8), torch.tensor([[True, False]]))[0, :, 0], torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("channels", [6, 24])
def test_other_channels_than_the_norm_s_are_refused(channels: int) -> None:
    """Values beside x would be read past their ends, which no error of Python's would show."""
    norm, _ = twins(12)
    x, mask = torch.randn(4, 6, channels, dtype=torch.float64), torch.ones(4, 6, dtype=torch.bool)
    with pytest.raises(RuntimeError, match=rf"x has {channels} channels .* of shape \[12\]"):
        norm(x, mask)


@pytest.mark.parametrize("shape", [(4,), (4, 5), (6, 4), (24,), (4, 6, 8)], ids=str)
def test_a_mask_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    running = rows.Running(torch.zeros(8), torch.ones(8), None)
    with pytest.raises(RuntimeError, match="needs a mask of its size without channels"):
        rows.standardise_batch(torch.randn(4, 6, 8), torch.ones(shape).bool(), None, None, running, eps=1e-5)


def test_a_mask_or_statistics_of_another_type_are_refused() -> None:
    running, x = rows.Running(torch.zeros(8), torch.ones(8), 0.1), torch.randn(4, 6, 8)
    with pytest.raises(RuntimeError, match="expected scalar type Bool"):
        rows.standardise_batch(x, torch.ones(4, 6), None, None, running, eps=1e-5)
    with pytest.raises(RuntimeError, match="expected scalar type Double"):
        rows.standardise_batch(x.double(), torch.ones(4, 6).bool(), None, None, running, eps=1e-5)
