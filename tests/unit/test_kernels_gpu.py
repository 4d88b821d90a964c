"""The recurrence's Triton kernels against its plain twin: on a GPU where there is one, else in Triton's interpreter.

The interpreter has to be chosen before triton is imported, so one test runs all the others in a process of its own.
"""

import copy
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product

import pytest
import torch
from test_kernels import assert_equal, padding, results, twins

from normlab.config.schema import InputError
from normlab.kernels import recurrence as module
from normlab.kernels.arguments import CellNorm, CellNorms, Sequences, Weights
from normlab.kernels.recurrence import recurrence
from normlab.models.lstm import LSTMCell

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() and not INTERPRETED else "cpu"

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="no Triton: pip install triton")
on_device = pytest.mark.skipif(
    DEVICE == "cpu" and not INTERPRETED, reason="no GPU; test_in_the_interpreter runs it on the CPU"
)


@pytest.fixture(autouse=True)
def as_on_a_gpu(monkeypatch):
    """Tensors of the CPU too go where those of a GPU go."""
    monkeypatch.setattr(module, "_on_cpu", module._on_gpu)
    torch.manual_seed(0)


def pair(*arguments, **options) -> list[LSTMCell]:
    return [cell.to(DEVICE) for cell in twins(*arguments, **options)]


def normal(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype).to(DEVICE)


CASES = list(
    product(
        ["none", "layer", "rms", "rms with bias"],
        ["inside", "input", "between"],
        ["joint", "separate"],
        [True, False],
        [True, False],
        [(3, 3, 2, 5), (2, 1, 3, 8), (1, 3, 1, 17)],
    )
)
FEW = CASES[::29]  # 29 is prime to the number of choices of each kind, so that all occur


@on_device
@needs_triton
@pytest.mark.parametrize(
    ("norm", "placement", "gates", "cell_norm", "masked", "sizes"),
    [*FEW, *(pytest.param(*case, marks=pytest.mark.slow) for case in CASES if case not in FEW)],
)
def test_equals_the_plain_twin(norm, placement, gates, cell_norm, masked, sizes):
    examples, steps, features, width = sizes
    plain, fused = pair(norm, features, width, steps, placement=placement, gates=gates, cell_norm=cell_norm)
    x = normal(examples, steps, features)
    mask = padding(examples, steps).to(DEVICE) if masked else None
    assert_equal(results(fused, x, mask), results(plain, x, mask), 1e-9)
    with torch.no_grad():  # nothing is kept for a backward pass
        assert_equal({"y": fused(x, mask)}, {"y": plain(x, mask)}, 1e-9)


@on_device
@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("width", [128, 300])
def test_wide_rows(norm, width):
    plain, fused = pair(norm, 7, width, 3)
    x, mask = normal(4, 3, 7), padding(4, 3).to(DEVICE)
    assert_equal(results(fused, x, mask), results(plain, x, mask), 1e-9)


@on_device
@needs_triton
@pytest.mark.parametrize("norm", [pytest.param("none", marks=pytest.mark.slow), "layer"])
def test_float32_errs_as_little_as_pytorch(norm):
    errors = {"plain": 0.0, "fused": 0.0}
    plain, fused = pair(norm, 5, 33, 4, torch.float32)
    x = normal(3, 4, 5, dtype=torch.float32)
    exact = results(copy.deepcopy(plain).double(), x.double(), None)
    for kernel, cell in (("plain", plain), ("fused", fused)):
        found = results(cell, x, None)
        errors[kernel] = sum(((found[name] - exact[name]).norm() / exact[name].norm()).item() for name in exact)
    assert errors["fused"] <= 2 * errors["plain"], errors


@on_device
@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_is_exact_near_zero_and_far(dtype):
    """With open gates and nothing coming in, h is tanh(c)."""
    size = torch.logspace(-6, 1.5, 20, dtype=dtype, device=DEVICE)
    c = torch.cat([size, -size])[None]
    zeros, gate = c.new_zeros(160, 40), c.new_ones(40)
    bias = torch.cat([100 * gate, -100 * gate, 100 * gate, 0 * gate])
    found = recurrence(Sequences(c.new_zeros(1, 1, 40), c=c), Weights(zeros, zeros, bias))
    torch.testing.assert_close(found.h[0], c.tanh(), rtol=8 * torch.finfo(dtype).eps, atol=0)


@on_device
@needs_triton
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_initial_states_and_last_c_carry_gradients(norm):
    """Two halves that hand over their states are one whole."""
    cell, _ = pair("none", 3, 6, 5)
    gain, part = normal(24).abs().requires_grad_(), normal(6).abs().requires_grad_()
    norms = CellNorms(CellNorm(norm, gain), CellNorm(norm, gain), CellNorm(norm, part, normal(6)))
    weights = Weights(cell.weight_x, cell.weight_h, cell.bias)
    x, *state = (t.requires_grad_() for t in (normal(1, 3, 3), normal(1, 6), normal(1, 6)))
    whole = recurrence(Sequences(x, *state), weights, norms)
    first = recurrence(Sequences(x[:, :1], *state), weights, norms)
    second = recurrence(Sequences(x[:, 1:], first.h[:, -1], first.c), weights, norms)
    halves = torch.cat([first.h, second.h], 1)
    torch.testing.assert_close(halves, whole.h, rtol=0, atol=1e-12)
    torch.testing.assert_close(second.c, whole.c, rtol=0, atol=1e-12)
    with torch.no_grad():
        alone = recurrence(Sequences(x, *state), weights, norms)
    torch.testing.assert_close((alone.h, alone.c), (whole.h, whole.c), rtol=0, atol=0)
    loss = normal(1, 3, 6)
    once, twice = (
        torch.autograd.grad((h * loss).sum() + c.square().sum(), [x, *state, *weights, gain, part])
        for h, c in ((whole.h, whole.c), (halves, second.c))
    )
    for a, b in zip(once, twice, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        assert a.abs().max() > 1e-6


@on_device
@needs_triton
def test_the_same_bits_every_time_and_after_a_backward_pass():
    _, cell = pair("layer", 3, 20, 3, torch.float32)
    x = normal(2, 3, 3, dtype=torch.float32)
    first, second = results(copy.deepcopy(cell), x, None), results(copy.deepcopy(cell), x, None)
    assert all(torch.equal(first[name], second[name]) for name in first)
    loss = cell(x).square().sum()
    once, twice = (torch.autograd.grad(loss, list(cell.parameters()), retain_graph=True) for _ in range(2))
    assert all(map(torch.equal, once, twice))


@on_device
@needs_triton
def test_inputs_that_are_not_contiguous():
    plain, fused = pair("layer", 3, 6, 3)
    x = normal(3, 2, 6).transpose(0, 1)[..., ::2]
    mask = padding(3, 2).t().to(DEVICE)
    assert_equal(results(fused, x, mask), results(plain, x, mask), 1e-9)


@on_device
@needs_triton
def test_autocast_computes_in_float32():
    _, cell = pair("layer", 4, 8, 3, torch.float32)
    x = normal(3, 3, 4, dtype=torch.bfloat16)
    with torch.autocast(DEVICE, torch.bfloat16):
        half = cell(x)
    half.sum().backward()
    assert half.dtype == torch.float32
    under = [p.grad.clone() for p in cell.parameters()]
    cell.zero_grad()
    whole = cell(x.float())
    whole.sum().backward()
    torch.testing.assert_close(half, whole, rtol=0, atol=0)
    torch.testing.assert_close(under, [p.grad for p in cell.parameters()], rtol=0, atol=0)


@on_device
@needs_triton
def test_a_second_derivative_is_refused():
    _, cell = pair("layer", 4, 8, 2)
    x = normal(3, 2, 4).requires_grad_()
    with pytest.raises(InputError, match="second derivative"):
        torch.autograd.grad(cell(x).sum(), x, create_graph=True)


@on_device
@needs_triton
def test_nan_stays_visible_and_large_inputs_saturate():
    plain, fused = pair("none", 4, 8, 5)
    x = normal(2, 3, 4)
    x[1, 1, 0] = torch.nan
    y = fused(x)
    assert y[1, 1:].isnan().all()
    assert y[0].isfinite().all()
    large = 1e4 * normal(2, 3, 4)
    assert_equal(results(fused, large, None), results(plain, large, None), 1e-9)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_is_refused(training):
    _, cell = pair("batch", 4, 8, 5)
    with pytest.raises(InputError, match=r"supports batch norm only on CPUs; use model\.kernel=plain"):
        cell.train(training)(normal(3, 5, 4))


def test_without_triton_the_user_reads_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith("normlab.kernels.gpu")]:
        monkeypatch.delitem(sys.modules, name)
    _, cell = pair("layer", 4, 8, 5)
    with pytest.raises(InputError, match=r"pip install triton, or use model\.kernel=plain"):
        cell(normal(3, 5, 4))


@needs_triton
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("step", ["forward_step", "backward_step"])
@pytest.mark.parametrize(
    ("norm", "parts", "width", "real"),
    [
        ("layer", 1, 512, "fp32"),
        *(
            pytest.param(*choices, marks=pytest.mark.slow)
            for choices in product(["none", "rms", "layer"], [1, 4], [1, 512], ["fp32", "fp64"])
        ),
    ],
)
def test_compiles_without_a_gpu(step, norm, parts, width, real, tmp_path, monkeypatch):
    """Down to the machine code of an NVIDIA GPU: the interpreter takes what the compiler may refuse."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from normlab.kernels.gpu import cell
    from normlab.kernels.gpu.loop import Compiled, constants

    kernel = getattr(cell, step)
    fixed = {**constants(Compiled(norm, norm, parts, 1e-5), width), "KEEP": True, "AFFINE": True}
    warps = fixed.pop("num_warps")
    types = dict.fromkeys(kernel.arg_names, f"*{real}") | {"real": "*u8"}
    types |= dict.fromkeys(("t", "examples", "steps", "units"), "i32")
    types |= {name: "constexpr" for name in types if name in fixed}
    places = {(kernel.arg_names.index(name),): value for name, value in fixed.items() if name in types}
    source = ASTSource(kernel, types, places)
    found = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"num_warps": warps})
    assert found.asm["cubin"]


@needs_triton
@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED or DEVICE == "cuda", reason="they run")
@pytest.mark.parametrize("which", ["not slow", "slow"])
def test_in_the_interpreter(which):
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", __file__, "-m", which]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
