"""The fused recurrence against its plain twin, the tensor code of models/lstm.py."""

import copy
from functools import partial

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from normlab.models.lstm import Cell
from normlab.norms.batch import BatchNorm
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


def twins(norm: str, features: int, width: int, positions: int, dtype=torch.float64, **options) -> tuple[Cell, Cell]:
    """The same cell, plain and fused, all its parameters random."""
    defaults = {
        "placement": "inside",
        "gates": "joint",
        "cell_norm": True,
        "recurrent_init": "orthogonal",
        "state_noise": 0.0,
    }
    plain = Cell(NORMS[norm], features, width, positions, **defaults | options, kernel="plain").to(dtype)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    fused = copy.deepcopy(plain)
    fused.kernel, fused.forced = "fused", True
    return plain, fused


def padding(examples: int, steps: int) -> Tensor:
    """Sequences of random lengths, some without any real step."""
    return torch.arange(steps) < torch.randint(0, steps + 1, (examples, 1))


def results(cell: Cell, x: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """Outputs, gradients and buffers after one forward and backward pass."""
    x = x.detach().requires_grad_()
    y = cell(x, mask)
    torch.manual_seed(1)
    wanted = {"x": x, **dict(cell.named_parameters())}
    gradients = torch.autograd.grad((y * torch.randn_like(y)).sum(), list(wanted.values()))
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
