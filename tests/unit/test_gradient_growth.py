"""Gradient growth: against numerical differentiation, automatic differentiation, and mean field theory."""

import math
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from norm_sites import config as norm_config
from normlab.config.schema import Sizes
from normlab.measures.gradient_growth import cosine, gradient_logs, hidden, rms
from normlab.models.build import factory
from normlab.models.cnn import CNN
from normlab.models.mlp import MLP
from normlab.models.transformer import Transformer
from normlab.probes.slopes import growth, inner

IMAGES = Sizes("images", (1, 2, 3), outputs=2)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads take longer where the cores are busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def mlp(norm: str, activation: str = "relu", seed: int = 0, sizes: Sizes = IMAGES, **options):
    torch.manual_seed(seed)
    return MLP(factory(norm_config(norm)), sizes, activation=activation, **{"width": 4, **options}).double()


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- one network, by slow formulas

NAIVE_NORMS = {
    "none": lambda h: h,
    "batch": lambda h: (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-5),
    "layer": lambda h: (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5),
    "rms": lambda h: h / np.sqrt((h * h).mean(1, keepdims=True) + 1e-5),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("norm", NAIVE_NORMS)
def test_gradients_equal_numerical_differentiation_of_a_naive_write_out(norm, residual):
    model, v = mlp(norm, "tanh", residual=residual), gaussian(5, 4, seed=1)
    layers = hidden(model, gaussian(5, 1, 2, 3))
    weights = [linear.weight.detach().numpy() for linear in model.linears]

    def functional(x: np.ndarray, layer: int) -> float:
        for weight in weights[layer:]:
            y = np.tanh(NAIVE_NORMS[norm](x @ weight.T))
            x = x + y if residual else y
        return float((x * v.numpy()).sum())

    for layer, log in enumerate(gradient_logs(layers, v), 1):
        x = layers[layer - 1].detach().numpy()
        gradient = np.zeros_like(x)
        for at in np.ndindex(*x.shape):
            step = np.zeros_like(x)
            step[at] = 1e-5
            gradient[at] = (functional(x + step, layer) - functional(x - step, layer)) / 2e-5
        assert 10**log == pytest.approx(float(np.sqrt((gradient**2).mean())), rel=1e-6)


def transformer(norm_position: str):
    sizes = Sizes("tokens", (5,), outputs=11, vocabulary=11, positions=5, causal=True)
    layer = factory(norm_config("layer"))
    return Transformer(layer, sizes, width=8, heads=2, layers=3, norm_position=norm_position), torch.randint(11, (3, 5))


def cnn(placement: str):
    sizes = Sizes("images", (1, 8, 8), outputs=2)
    batch = factory(norm_config("batch"))
    return CNN(batch, sizes, width=4, stages=2, depth=2, placement=placement), gaussian(4, 1, 8, 8)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (partial(cnn, "post_conv"), 4),
        (partial(cnn, "pre_activation"), 4),
        (partial(transformer, "pre"), 3),
        (partial(transformer, "post"), 3),
        (lambda: (mlp("batch", residual=True, depth=5), gaussian(6, 1, 2, 3)), 5),
    ],
    ids=["cnn", "cnn-pre", "transformer-pre", "transformer-post", "mlp-residual"],
)
def test_layer_by_layer_equals_one_backward_pass(make, count):
    torch.manual_seed(0)
    model, inputs = make()
    layers = hidden(model.double(), inputs)
    assert len(layers) == count
    v = gaussian(*layers[-1].shape, seed=2)
    together = torch.autograd.grad((layers[-1] * v).sum(), layers, retain_graph=True)
    expected = [float(rms(gradient).log10()) for gradient in together]
    assert gradient_logs(layers, v) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_no_depth_underflows():
    layers = hidden(mlp("none", "sigmoid", width=3, depth=900), gaussian(2, 1, 2, 3))
    logs = gradient_logs(layers, gaussian(2, 3, seed=1))
    assert logs[0] < -308
    assert all(map(math.isfinite, logs))


# ---- wide and deep networks, by theory

POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
FUNCTIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda z: 1 / (2 + np.exp(z) + np.exp(-z))),
}


def mean(values: np.ndarray) -> float:
    """E over z ~ N(0, 1), by Gauss-Hermite quadrature at POINTS."""
    return float(values @ WEIGHTS)


def theory(norm: str, activation: str) -> float:
    """Growth of RMS gradients a layer, for infinite width and batch (see `measure`)."""
    function, derivative = FUNCTIONS[activation]
    gain, z = 2.0 if activation == "relu" else 1.0, POINTS
    if norm == "none":
        q = 1.0
        for _ in range(1000 if activation != "relu" else 0):  # a relu keeps any q
            q = gain * mean(function(math.sqrt(q) * POINTS) ** 2)
        return math.sqrt(gain * mean(derivative(math.sqrt(q) * z) ** 2))
    spread = mean(function(z) ** 2) - (mean(function(z)) ** 2 if norm == "batch" else 0.0)
    return math.sqrt(mean(derivative(z) ** 2) / spread)


def test_the_theory_is_the_published_one():
    assert theory("batch", "relu") == pytest.approx(math.sqrt(math.pi / (math.pi - 1)), abs=2e-3)
    assert theory("layer", "relu") == pytest.approx(1, abs=1e-3)
    assert theory("layer", "sigmoid") == pytest.approx(0.39, abs=5e-3)
    assert theory("none", "sigmoid") == pytest.approx(0.24, abs=5e-3)


@pytest.mark.parametrize(
    ("norm", "activation"),
    # without a norm a tanh net's signal fades so slowly that no depth is deep enough
    [case for case in product(["none", "batch", "layer", "rms"], FUNCTIONS) if case != ("none", "tanh")],
)
def test_growth_is_what_theory_says(norm, activation):
    """Within 0.03: a seed's spread is 0.012 at most, what a finite width and batch change is 0.01."""
    assert measured(norm, activation) == pytest.approx(theory(norm, activation), abs=0.03)


def measured(norm: str, activation: str, **options) -> float:
    """Width and batch of 256, 20 layers, inputs of as many dimensions."""
    model = mlp(norm, activation, sizes=Sizes("images", (1, 16, 16), outputs=2), width=256, depth=20, **options)
    layers = hidden(model, gaussian(256, 1, 16, 16))
    logs = gradient_logs(layers, gaussian(256, 256, seed=1))
    return growth([-log for log in logs], inner(20, 0.2))


def test_shortcuts_hold_the_growth_back():
    assert 1 < measured("batch", "relu", residual=True) < 1.08


# ---- the numbers made of them


def test_growth_is_the_slope():
    assert growth([0.3 * layer + 2 for layer in range(1, 11)], range(3, 9)) == pytest.approx(10**0.3)
    assert growth([math.inf, 0.0, 1.0, 2.0, math.nan], range(2, 5)) == pytest.approx(10)
    assert growth([0.0, -math.inf, 0.0], range(1, 4)) is None


def test_inner_layers_leave_the_same_out_at_both_ends():
    assert inner(40, 0.2) == range(9, 33)
    assert inner(10, 0.0) == range(1, 11)
    assert inner(4, 0.4) == range(2, 4)
    assert inner(2, 0.4) == range(1, 3)
    assert inner(3, 0.4) == range(1, 4)


def test_cosine_is_the_mean_over_all_pairs():
    x = gaussian(5, 2, 3)
    pairs = [nn.functional.cosine_similarity(x[i].flatten(), x[j].flatten(), 0) for i in range(5) for j in range(i)]
    assert cosine(x) == pytest.approx(float(torch.stack(pairs).mean()), rel=1e-12)
