"""The fused recurrence against its plain twin, the tensor code of models/lstm.py."""

import copy
import math
import statistics
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normlab.config.schema import InputError, Sizes
from normlab.kernels.arguments import CellNorm, CellNorms, Pool, Sequences, Weights
from normlab.kernels.recurrence import recurrence
from normlab.models.lstm import LSTM, LSTMCell
from normlab.norms.batch import BatchNorm
from normlab.norms.detached_layer import DetachedLayerNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm
from normlab.norms.rms import RMSNorm

NORMS = {
    "none": partial(NoNorm),
    "layer": partial(LayerNorm),
    "rms": partial(RMSNorm),
    "rms with bias": partial(RMSNorm, with_bias=True),
    "batch": partial(BatchNorm),
    "batch, nbs=3": partial(BatchNorm, nbs=3, momentum=None),
    "batch, evaluation=batch": partial(BatchNorm, evaluation="batch", recurrent_gain=0.7),
}


def twins(
    norm: str, features: int, width: int, positions: int, dtype=torch.float64, **options
) -> tuple[LSTMCell, LSTMCell]:
    """The same cell, plain and fused, all its parameters random."""
    plain = LSTMCell(NORMS[norm], features, width, positions=positions, **options, kernel="plain").to(dtype)
    for module in plain.modules():
        if isinstance(module, RMSNorm | LayerNorm) and module.kernel:
            module.kernel = "plain"  # tensor code, not the norms' own kernels
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    fused = copy.deepcopy(plain)
    fused.kernel, fused.forced = "fused", True
    return plain, fused


def padding(examples: int, steps: int) -> Tensor:
    """Sequences of random lengths, some without any real step."""
    return torch.arange(steps) < torch.randint(0, steps + 1, (examples, 1))


def results(cell: LSTMCell, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Outputs, gradients and buffers after one forward and backward pass."""
    x = x.detach().requires_grad_()
    y = cell(x, mask)
    torch.manual_seed(1)
    wanted = {"x": x, **dict(cell.named_parameters())}
    weights = torch.randn(y.shape, dtype=torch.float64).to(y)
    gradients = torch.autograd.grad((y * weights).sum(), list(wanted.values()))
    return {
        "y": y.detach(),
        **dict(zip((f"gradient of {name}" for name in wanted), gradients, strict=True)),
        **{name: buffer.clone() for name, buffer in cell.named_buffers()},
    }


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        scale = 1 + value.abs().max().item()
        error = (found[name] - value).abs().max().item()
        assert error <= tolerance * scale, f"{name}: {error / scale:.1e}"


@settings(deadline=None, max_examples=120, derandomize=True)
@given(
    norm=st.sampled_from(sorted(NORMS)),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 7), st.integers(1, 40), st.integers(2, 35)),
    placement=st.sampled_from(["inside", "input", "between"]),
    gates=st.sampled_from(["joint", "separate"]),
    cell_norm=st.booleans(),
    masked=st.booleans(),
    training=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_plain_twin(norm, sizes, placement, gates, cell_norm, masked, training, seed):
    torch.manual_seed(seed)
    examples, steps, features, width = sizes
    positions = max(1, steps - seed % 3)  # batch norm: later steps have no statistics of their own
    plain, fused = twins(norm, features, width, positions, placement=placement, gates=gates, cell_norm=cell_norm)
    plain.train(training), fused.train(training)
    x = torch.randn(examples, steps, features, dtype=torch.float64)
    mask = padding(examples, steps) if masked else None
    assert_equal(results(fused, x, mask), results(plain, x, mask), 1e-9)


@pytest.mark.parametrize("norm", ["none", "layer", "rms", "rms with bias", "batch"])
@pytest.mark.parametrize("steps", [6, 60])
def test_float32_errs_as_little_as_pytorch(norm, steps):
    """Against float64; the geometric mean of five seeds, because long recurrences amplify rounding by chance."""
    logarithms: dict[str, list[float]] = {"plain": [], "fused": []}
    for seed in range(5):
        torch.manual_seed(seed)
        plain, fused = twins(norm, 5, 33, steps, torch.float32)
        x = torch.randn(24, steps, 5)
        exact = results(copy.deepcopy(plain).double(), x.double(), None)
        for kernel, found in (("plain", results(plain, x, None)), ("fused", results(fused, x, None))):
            for name in ("y", "gradient of x", "gradient of weight_x", "gradient of weight_h", "gradient of bias"):
                error = (found[name] - exact[name]).norm() / exact[name].norm()
                logarithms[kernel].append(error.log().item())
    own, other = (math.exp(statistics.mean(logarithms[kernel])) for kernel in ("fused", "plain"))
    assert own <= 2 * other, f"{own:.1e}, PyTorch {other:.1e}"


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_initial_states_and_last_c_carry_gradients(norm):
    """Two halves that hand over their states are one whole."""
    torch.manual_seed(0)
    cell, _ = twins("none", 3, 10, 8)
    gain, part = torch.rand(40, dtype=torch.float64) + 0.5, torch.rand(10, dtype=torch.float64) + 0.5
    norms = (
        CellNorms(CellNorm(norm, gain), CellNorm(norm, gain), CellNorm(norm, part)) if norm != "none" else CellNorms()
    )
    norms = norms._replace(pool=Pool(4, (None, None, None)) if norm == "batch" else None)
    weights = Weights(cell.weight_x, cell.weight_h, cell.bias)
    x = torch.randn(4, 8, 3, dtype=torch.float64)
    state = torch.randn(4, 10, dtype=torch.float64), torch.randn(4, 10, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, *state)]
    whole = recurrence(Sequences(x, *state), weights, norms)
    first = recurrence(Sequences(x[:, :3], *state), weights, norms)
    second = recurrence(Sequences(x[:, 3:], first.h[:, -1], first.c), weights, norms)
    halves = torch.cat([first.h, second.h], 1)
    torch.testing.assert_close(halves, whole.h, rtol=0, atol=1e-12)
    torch.testing.assert_close(second.c, whole.c, rtol=0, atol=1e-12)
    loss = torch.randn(4, 8, 10, dtype=torch.float64)
    once, twice = (
        torch.autograd.grad((h * loss).sum() + c.square().sum(), [*inputs, *weights])
        for h, c in ((whole.h, whole.c), (halves, second.c))
    )
    for a, b in zip(once, twice, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
    assert once[1].abs().max() > 1e-6
    assert once[2].abs().max() > 1e-6


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_gradients_are_the_differences(norm):
    torch.manual_seed(0)
    _, cell = twins(norm, 2, 3, 4)
    x = torch.randn(5, 4, 2, dtype=torch.float64, requires_grad=True)
    cell.eval() if norm == "layer" else cell.train()
    assert torch.autograd.gradcheck(lambda x, *_: cell(x, MASK), (x, *cell.parameters()))


MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=torch.bool)


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_the_same_bits_every_time(norm):
    torch.manual_seed(0)
    _, cell = twins(norm, 3, 20, 12, torch.float32)
    x = torch.randn(50, 12, 3)
    first, second = results(copy.deepcopy(cell), x, None), results(copy.deepcopy(cell), x, None)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_threads_change_no_output_and_gradients_by_rounding_only():
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    found = {}
    for norm in ("layer", "batch"):
        _, cell = twins(norm, 3, 40, 6)
        x = torch.randn(30, 6, 3, dtype=torch.float64)
        try:
            for number in (1, 2, 3):
                torch.set_num_threads(number)
                found[number] = results(copy.deepcopy(cell), x, None)
        finally:
            torch.set_num_threads(threads)
        assert torch.equal(found[1]["y"], found[2]["y"])
        assert_equal(found[2], found[1], 1e-12)
        assert_equal(found[3], found[1], 1e-12)


def test_inputs_that_are_not_contiguous():
    torch.manual_seed(0)
    plain, fused = twins("layer", 6, 9, 5)
    x = torch.randn(5, 4, 12, dtype=torch.float64).transpose(0, 1)[..., ::2]
    mask = padding(5, 4).t()
    assert_equal(results(fused, x, mask), results(plain, x, mask), 1e-9)


def test_two_layers_and_directions():
    torch.manual_seed(0)
    sizes = Sizes("features", (7, 3), outputs=4, positions=5)
    norms = {
        kernel: LSTM(NORMS["batch"], sizes, width=9, layers=2, bidirectional=True, kernel=kernel) for kernel in KERNELS
    }
    norms["fused"].load_state_dict(norms["plain"].state_dict())
    x, mask = torch.randn(6, 7, 3, dtype=torch.float64), padding(6, 7)
    plain, fused = (results(norms[kernel].double(), x, mask) for kernel in KERNELS)
    assert_equal(fused, plain, 1e-9)


KERNELS = ("plain", "fused")


def test_exact_statistics_are_collected_as_by_the_twin():
    torch.manual_seed(0)
    plain, fused = twins("batch", 3, 8, 5)
    x = torch.randn(6, 5, 3, dtype=torch.float64)
    for cell in (plain, fused):
        for norm in (cell.norm_x, cell.norm_h, cell.norm_c):
            norm.collect()
        cell(x)
        for norm in (cell.norm_x, cell.norm_h, cell.norm_c):
            norm.adopt_collected()
    assert_equal(dict(fused.named_buffers()), dict(plain.named_buffers()), 1e-9)


def test_autocast_computes_in_float32():
    torch.manual_seed(0)
    _, cell = twins("layer", 4, 8, 5, torch.float32)
    x = torch.randn(3, 5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        half = cell(x.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, cell(x.bfloat16().float()))


def test_a_second_derivative_is_refused():
    _, cell = twins("layer", 4, 8, 5)
    x = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InputError, match="second derivative"):
        torch.autograd.grad(cell(x).sum(), x, create_graph=True)


def test_nan_stays_visible():
    _, cell = twins("none", 4, 8, 5)
    x = torch.randn(3, 5, 4, dtype=torch.float64)
    x[1, 2, 0] = torch.nan
    y = cell(x)
    assert y[1, 2:].isnan().all()
    assert y[[0, 2]].isfinite().all()


def test_large_inputs_saturate():
    plain, fused = twins("none", 4, 8, 5, torch.float32)
    x = 1e4 * torch.randn(3, 5, 4)
    assert_equal(results(fused, x, None), results(plain, x, None), 1e-5)


def recur(x, weight_x, weight_h, bias, *, h0=None, mask=None, norms=CellNorms()):  # noqa: B008
    return recurrence(Sequences(x, h0, mask=mask), Weights(weight_x, weight_h, bias), norms)


NO_POOL = Pool(2, (None, None, None))
GOOD = {
    "x": torch.zeros(3, 5, 4),
    "weight_x": torch.zeros(8, 4),
    "weight_h": torch.zeros(8, 2),
    "bias": torch.zeros(8),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": torch.zeros(3, 5)}, "x must be"),
        ({"x": torch.zeros(3, 0, 4)}, "at least one"),
        ({"x": torch.zeros(3, 5, 6)}, "weight_x must have the shape"),
        ({"weight_h": torch.zeros(2, 8)}, "weight_x must have the shape"),
        ({"weight_h": torch.zeros(8)}, "weight_h must be"),
        ({"bias": torch.zeros(2)}, "bias must have the shape"),
        ({"bias": torch.zeros(4, 8)}, "bias must have the shape"),
        ({"x": torch.zeros(3, 5, 4, dtype=torch.float64)}, "all float64"),
        ({"x": torch.zeros(3, 5, 4, dtype=torch.float16)}, "must be float32"),
        ({"x": torch.zeros(3, 5, 4, device="meta")}, "runs only on the CPU or a GPU"),
        ({"bias": torch.zeros(8, device="meta")}, "must be on one device"),
        ({"mask": torch.ones(5, 3, dtype=torch.bool)}, "mask must be bool"),
        ({"mask": torch.ones(3, 5)}, "mask must be bool"),
        ({"h0": torch.zeros(2, 3)}, "h0 must have the shape"),
        ({"norms": CellNorms(CellNorm("rms", torch.ones(2)))}, "gain_x must have the shape"),
        ({"norms": CellNorms(parts=2)}, "parts=2"),
        ({"norms": CellNorms(pool=NO_POOL)}, "takes a pool"),
        ({"norms": CellNorms(CellNorm("batch"))}, "takes a pool"),
        (
            {"norms": CellNorms(CellNorm("batch"), CellNorm("rms"), pool=NO_POOL)},
            "be combined with another norm",
        ),
        ({"norms": CellNorms(CellNorm("batch"), pool=NO_POOL._replace(examples=0))}, "at least one example"),
    ],
)
def test_what_does_not_fit_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        recur(**GOOD | changed)


def test_layer_norm_over_one_unit_is_refused():
    one = {
        "x": torch.zeros(3, 5, 4),
        "weight_x": torch.zeros(4, 4),
        "weight_h": torch.zeros(4, 1),
        "bias": torch.zeros(4),
    }
    with pytest.raises(InputError, match="always 0"):
        recur(**one, norms=CellNorms(c=CellNorm("layer", torch.ones(1))))
    with pytest.raises(InputError, match="always 0"):
        LSTM(partial(LayerNorm), Sizes("features", (5, 4), outputs=2, positions=5), width=1, kernel="fused")


def test_auto_takes_the_plain_cell_for_norms_it_does_not_know(capsys):
    sizes = Sizes("features", (5, 4), outputs=2, positions=5)
    assert LSTM(partial(LayerNorm), sizes, width=4).layers[0].forwards.kernel == "fused"
    for norm in (partial(DetachedLayerNorm), partial(BatchNorm, sync=True)):
        assert LSTM(norm, sizes, width=4).layers[0].forwards.kernel == "plain"
        with pytest.raises(InputError, match=r"use model\.kernel=plain"):
            LSTM(norm, sizes, width=4, kernel="fused")
    assert capsys.readouterr().err == ""
