"""The compiled kernels of norms against their plain twins, the norms' own formulas."""

import copy
import math
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from normlab.kernels import rows
from normlab.norms.base import Norm
from normlab.norms.derf import DynamicErf
from normlab.norms.dyt import DynamicTanh
from normlab.norms.layer import LayerNorm
from normlab.norms.layer_channel import LayerChannelNorm
from normlab.norms.rms import RMSNorm

NORMS: dict[str, Callable[..., Norm]] = {
    "rms": RMSNorm,
    "rms with bias": lambda *site, **named: RMSNorm(*site, with_bias=True, **named),
    "dyt": DynamicTanh,
    "dyt without bias": lambda *site, **named: DynamicTanh(*site, bias=False, **named),
    "derf": DynamicErf,
    "layer": LayerNorm,
    "layer channel": LayerChannelNorm,
}
SHAPES = {
    "BC": (5, 12),
    "BTC": (3, 7, 48),
    "BCHW": (4, 12, 5, 7),
}
SITES = [(norm, layout) for norm in NORMS for layout in SHAPES if (norm, layout) != ("layer", "BCHW")]


def twins(norm: str, layout: str, channels: int, parts: int = 1, dtype: torch.dtype = torch.float64) -> list[Norm]:
    """A norm with random parameters by its compiled kernel, and the same by its formula."""
    native = norm == "layer" or (norm == "layer channel" and layout != "BCHW")  # PyTorch's own kernel, without parts
    compiled = NORMS[norm](channels, layout, parts=max(parts, 2) if native else parts).to(dtype)
    assert compiled.kernel == "compiled"
    with torch.no_grad():
        for parameter in compiled.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    plain = copy.deepcopy(compiled)
    plain.kernel = "plain"
    return [compiled, plain]


def results(norm: Norm, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """y and the gradients of a weighted sum of it."""
    x = x.detach().requires_grad_()
    y = norm(x, mask)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).view_as(y).to(y)
    return [y.detach(), *torch.autograd.grad((y * weights).sum(), [x, *norm.parameters()])]


def assert_twins(norms: list[Norm], x: Tensor, tolerance: float, mask: Tensor | None = None) -> None:
    for found, expected in zip(*(results(norm, x, mask) for norm in norms), strict=True):
        assert found.dtype == expected.dtype
        scale = max(1.0, float(expected.detach().abs().max()) if expected.numel() else 1.0)
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize(("norm", "layout"), SITES)
@pytest.mark.parametrize("parts", [1, 4])
def test_equals_the_formula(norm: str, layout: str, parts: int) -> None:
    torch.manual_seed(0)
    shape = SHAPES[layout]
    norms = twins(norm, layout, shape[1 if layout == "BCHW" else -1], parts)
    x = torch.randn(shape, dtype=torch.float64)
    assert_twins(norms, x, 1e-12)
    if layout != "BCHW":
        assert_twins(norms, x, 1e-12, torch.rand(shape[:-1]) < 0.6)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(SITES),
    st.integers(0, 70),
    st.integers(1, 70),
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(0, 9),
)
def test_equals_the_formula_at_any_size(site, examples, width, parts, positions, seed) -> None:
    """Sizes that don't fill vectors, single values and no values."""
    norm, layout = site
    torch.manual_seed(seed)
    channels = width * max(parts, 2)
    shape = {
        "BC": (examples, channels),
        "BTC": (examples, positions, channels),
        "BCHW": (examples, channels, positions, 3),
    }
    assert_twins(twins(norm, layout, channels, max(parts, 2)), torch.randn(shape[layout], dtype=torch.float64), 1e-11)


@pytest.mark.parametrize(("norm", "layout"), SITES)
def test_float32_errs_as_little_as_pytorch(norm: str, layout: str) -> None:
    """Against the formula in float64; many rows, whose gradients of gain and bias are sums of many."""
    torch.manual_seed(0)
    shape = (256, *SHAPES[layout][1:])
    norms = twins(norm, layout, shape[1 if layout == "BCHW" else -1], dtype=torch.float32)
    x = torch.randn(shape)
    exact = results(copy.deepcopy(norms[1]).double(), x.double())
    ours, theirs = (
        [float((value - true).norm()) for value, true in zip(results(norm, x), exact, strict=True)] for norm in norms
    )
    for error, other, true in zip(ours, theirs, exact, strict=True):
        summed = 1.2e-7 * x.numel() ** 0.5  # what rounding does to sums of as many terms of size one, which may cancel
        assert error < max(4 * other, 3e-7 * float(true.norm()), summed)


@pytest.mark.parametrize(("norm", "layout"), SITES)
def test_gradients_are_the_differences_twice(norm: str, layout: str) -> None:
    torch.manual_seed(0)
    compiled, _ = twins(norm, layout, 6, 2)
    x = torch.randn({"BC": (3, 6), "BTC": (2, 2, 6), "BCHW": (2, 6, 6, 3)}[layout], dtype=torch.float64)
    names = [name for name, _ in compiled.named_parameters()]

    def call(*values: Tensor) -> Tensor:
        for name, value in zip(names, values[1:], strict=True):
            compiled._parameters[name] = value  # as nn.Parameter would detach it
        return compiled(values[0])

    values = [x, *(parameter.detach() for parameter in compiled.parameters())]
    values = [value.requires_grad_() for value in values]
    assert torch.autograd.gradcheck(call, values)
    assert torch.autograd.gradgradcheck(call, values)


@pytest.mark.parametrize(("norm", "layout"), SITES)
def test_constant_huge_and_tiny_inputs(norm: str, layout: str) -> None:
    torch.manual_seed(0)
    shape = SHAPES[layout]
    norms = twins(norm, layout, shape[1 if layout == "BCHW" else -1], dtype=torch.float32)
    for x in (torch.zeros(shape), torch.full(shape, 3.0), torch.full(shape, 1e-30), 1e15 * torch.randn(shape)):
        for found, expected in zip(*(results(norm, x) for norm in norms), strict=True):
            assert found.isfinite().all()
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.abs().max())))


@pytest.mark.parametrize("norm", ["rms", "dyt", "layer"])
def test_nan_stays_visible_and_in_its_row(norm: str) -> None:
    compiled, _ = twins(norm, "BC", 20)
    x = torch.randn(4, 20, dtype=torch.float64)
    x[1, 3] = math.nan
    y = compiled(x)
    assert y[1].isnan().any()
    assert y[[0, 2, 3]].isfinite().all()


@pytest.mark.parametrize(("norm", "layout"), SITES)
def test_inputs_that_are_not_contiguous(norm: str, layout: str) -> None:
    shape = SHAPES[layout]
    norms = twins(norm, layout, shape[1 if layout == "BCHW" else -1])
    wide = torch.randn(*shape[:-1], 2 * shape[-1], dtype=torch.float64)
    assert_twins(norms, wide[..., ::2], 1e-12)
    if layout == "BCHW":
        assert_twins(norms, torch.randn(shape).double().to(memory_format=torch.channels_last), 1e-12)


@pytest.mark.parametrize(("norm", "layout"), SITES)
def test_the_same_bits_every_time_and_other_threads_round_only(norm: str, layout: str) -> None:
    shape = {"BC": (700, 132), "BTC": (70, 10, 132), "BCHW": (70, 12, 10, 11)}[layout]
    compiled, _ = twins(norm, layout, shape[1 if layout == "BCHW" else -1], dtype=torch.float32)
    x, threads = torch.randn(shape), torch.get_num_threads()
    found = {}
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found[number] = results(compiled, x)
            assert all(torch.equal(a, b) for a, b in zip(found[number], results(compiled, x), strict=True))
    finally:
        torch.set_num_threads(threads)
    for number in (2, 3):
        assert torch.equal(found[1][0], found[number][0])
        assert torch.equal(found[1][1], found[number][1])
        for one, other in zip(found[1], found[number], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))


@pytest.mark.parametrize("function", ["tanh", "erf"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_and_erf_are_right_within_a_few_units_of_the_last_place(function: str, dtype: torch.dtype) -> None:
    x = torch.cat(
        [torch.linspace(-7, 7, 100_001, dtype=torch.float64), torch.logspace(-30, 30, 1001, dtype=torch.float64)]
    )
    x = x.to(dtype)[:, None]
    bare = {"alpha": torch.ones(1, dtype=dtype), "gain": None, "bias": None, "channels_first": False}
    call = {"tanh": partial(rows.tanh, **bare), "erf": partial(rows.erf, **bare, shift=None)}
    y = call[function](x)
    exact = getattr(torch, function)(x.double())
    assert float(((y - exact) / exact).abs().nan_to_num().max()) < 4 * torch.finfo(dtype).eps
    ends = torch.tensor([[math.inf, -math.inf, math.nan, 0.0]], dtype=dtype)
    y = call[function](ends)
    assert y[0, :2].tolist() == [1.0, -1.0]
    assert y[0, 2].isnan()
    assert y[0, 3] == 0


@pytest.mark.parametrize("channels_first", [False, True])
def test_erf_with_a_shift(channels_first: bool) -> None:
    """gain · erf(alpha · x + shift) + bias against PyTorch, with all five gradients."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    channels = 3 if channels_first else 5
    inside = (torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64))
    outside = (torch.randn(channels, dtype=torch.float64), torch.randn(channels, dtype=torch.float64))
    values = [value.requires_grad_() for value in (x, *inside, *outside)]

    def ours(x: Tensor, alpha: Tensor, shift: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        return rows.erf(x, alpha, shift, gain, bias, channels_first=channels_first)

    x, alpha, shift, gain, bias = values
    if channels_first:
        gain, bias = gain[:, None], bias[:, None]
    torch.testing.assert_close(ours(*values), gain * torch.erf(alpha * x + shift) + bias, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(ours, values)
    assert torch.autograd.gradgradcheck(ours, values)


@pytest.mark.parametrize("norm", ["rms", "dyt", "layer"])
def test_where_the_kernel_cannot_be_used_the_formula_is(norm: str) -> None:
    """Under vmap over seeds, forward mode, export, in half precision and in other dtypes than the parameters'."""
    compiled, plain = twins(norm, "BC", 8, dtype=torch.float32)
    x = torch.randn(4, 8)
    expected = plain(x)
    stacked = {name: torch.stack([value, value]) for name, value in compiled.named_parameters()}
    both = torch.func.vmap(lambda values: torch.func.functional_call(compiled, values, (x,)))(stacked)
    torch.testing.assert_close(both, torch.stack([expected, expected]))
    _, tangent = torch.func.jvp(lambda x: compiled(x), (x,), (torch.ones_like(x),))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(compiled(dual)).tangent, tangent)
    exported = torch.export.export(compiled.eval(), (x,))
    assert not any("normlab" in str(node.target) for node in exported.graph.nodes)
    torch.testing.assert_close(exported.module()(x), expected)
    assert compiled(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(compiled(x.bfloat16()).float(), expected, rtol=0.05, atol=0.05)


def test_no_gradient_is_made_that_nobody_wants() -> None:
    norm = RMSNorm(8, "BC")
    norm.gain.requires_grad_(False)
    x = torch.randn(4, 8, requires_grad=True)
    norm(x).sum().backward()
    assert norm.gain.grad is None
    assert x.grad is not None
    with torch.inference_mode():
        assert norm(torch.randn(4, 8)).shape == (4, 8)
    with torch.no_grad():
        assert not norm(x).requires_grad


def test_only_sites_that_gain_by_it_have_a_kernel() -> None:
    for norm in (LayerNorm, LayerChannelNorm):
        assert norm(8, "BC").kernel is None
        assert norm(8, "BC", parts=2).kernel == "compiled"
    assert LayerNorm(8, "BCHW", parts=2).kernel is None
    assert LayerChannelNorm(8, "BCHW").kernel == "compiled"
    assert isinstance(LayerNorm(8, "BC").gain, nn.Parameter)


@pytest.mark.parametrize("size", [4, 5, 7, 8])
@pytest.mark.parametrize("parts", [1, 2])
def test_layer_norm_by_pixel_computes_where_the_channels_lie(monkeypatch, size: int, parts: int) -> None:
    """Kernels for channels that come first and last in memory; equal results, in the same memory format."""
    calls = []
    for name in ("standardise_positions", "standardise"):
        kernel = getattr(rows, name)
        monkeypatch.setattr(rows, name, lambda *call, k=kernel, n=name: [calls.append(n), k(*call)][1])
    norm = LayerChannelNorm(12, "BCHW", parts=parts)
    x = torch.randn(3, 12, size, size)
    for memory, used in ((torch.contiguous_format, "standardise_positions"), (torch.channels_last, "standardise")):
        y = norm(x.contiguous(memory_format=memory))
        assert y.is_contiguous(memory_format=memory)
        assert calls == ([used] if used == "standardise_positions" or parts == 2 else [])
        calls.clear()
        blocks = x.unflatten(1, (parts, -1)).double()
        expected = (blocks - blocks.mean(2, True)) / (blocks.var(2, correction=0, keepdim=True) + norm.eps).sqrt()
        torch.testing.assert_close(y, expected.flatten(1, 2).float())


@pytest.mark.parametrize("positions", [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 48, 49, 64, 65, 130])
def test_positions_that_do_not_fill_vectors(positions: int) -> None:
    """Also so few that the norm leaves them to PyTorch; with eps 0, what fills a vector up would become infinite."""
    assert rows.choose() == "compiled"
    torch.manual_seed(0)
    gain, bias = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    values = [v.requires_grad_() for v in (torch.randn(2, 6, positions, dtype=torch.float64), gain, bias)]

    def slow(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
        blocks = x.unflatten(1, (2, 3))
        standard = (blocks - blocks.mean(2, True)) / blocks.var(2, correction=0, keepdim=True).sqrt()
        return standard.flatten(1, 2) * gain[:, None] + bias[:, None]

    weights = torch.randn(2, 6, positions, dtype=torch.float64)
    ours, theirs = rows.standardise_positions(*values, 2, 0.0), slow(*values)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for found, expected in zip(
        *(torch.autograd.grad((y * weights).sum(), values) for y in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_without_a_compiler_the_formula_is_used_and_one_line_says_why(tmp_path) -> None:
    code = "from normlab.norms.rms import RMSNorm; print(*(RMSNorm(8, 'BC').kernel for _ in range(2)))"
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CXX": "no-such-compiler"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain", "plain"]
    assert done.stderr.strip().startswith("normlab: norms use plain tensor code, which is slower: no C++ compiler")


@pytest.mark.parametrize(("norm", "layout"), [("rms", "BTC"), ("dyt", "BCHW"), ("derf", "BC"), ("layer", "BTC")])
@pytest.mark.parametrize("channels", [6, 24])
def test_other_channels_than_the_norm_s_are_refused(norm: str, layout: str, channels: int) -> None:
    """Values beside x would be read past their ends, which no error of Python's would show."""
    compiled, _ = twins(norm, layout, 12)
    shape = list(SHAPES[layout])
    shape[1 if layout == "BCHW" else -1] = channels
    with pytest.raises(RuntimeError, match=rf"x has {channels} channels .* of shape \[12\]"):
        compiled(torch.randn(shape, dtype=torch.float64))
