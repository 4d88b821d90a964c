"""Scaled weights: exact invariance where theory says so, and exact growth where it doesn't."""

import pytest
import torch

from norm_sites import config
from normlab.config.schema import Sizes
from normlab.measures.scale_invariance import before_norms, compare, scaled
from normlab.models.build import factory
from normlab.models.cnn import CNN
from normlab.models.mlp import MLP

SIZES = Sizes("images", (1, 4, 4), outputs=3)
INVARIANT = [
    ("mlp", "batch"),
    ("mlp", "layer"),
    ("mlp", "rms"),
    ("cnn", "batch"),
    ("cnn", "layer"),
    ("cnn", "instance"),
]
PER_UNIT = ("batch", "instance")


def model(kind: str, norm: str, **options):
    torch.manual_seed(0)
    node = dict(config(norm))
    made = factory({**node, "eps": 1e-30} if "eps" in node else node)
    built = MLP(made, SIZES, width=8, depth=3, **options) if kind == "mlp" else CNN(made, SIZES, width=8, stages=1)
    return built.double().train()


def compared(kind: str, norm: str, factor: float = 10.0):
    inputs = torch.randn(12, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return compare(model(kind, norm), inputs, torch.arange(12) % 3, factor, 0)


@pytest.mark.parametrize(("kind", "norm"), INVARIANT)
def test_norms_take_the_scale_of_weights_out(kind, norm):
    found = compared(kind, norm)
    assert found["function_change"] < 1e-10
    assert found["gradient_ratio"] == pytest.approx(1 / 10, rel=1e-8)
    assert found["step_ratio"] == pytest.approx(1 / 100, rel=1e-3)


@pytest.mark.parametrize(("kind", "norm"), INVARIANT)
def test_of_single_units_only_statistics_a_feature_do(kind, norm):
    change = compared(kind, norm)["unit_function_change"]
    assert change < 1e-10 if norm in PER_UNIT else change > 1e-2


def test_without_a_norm_a_relu_net_grows_with_every_layer():
    """Logits are homogeneous of degree 3 in its three layers' weights together, as all biases are 0."""
    assert compared("mlp", "none", 3.0)["function_change"] == pytest.approx(3.0**3 - 1, rel=1e-10)


def test_what_is_not_finite_is_null():
    assert compared("mlp", "none", 1e200)["function_change"] is None


def test_scaling_leaves_the_model_alone_and_the_rest_of_the_copy():
    before = model("cnn", "batch")
    after = scaled(before, 10.0)
    layers = {id(layer.weight) for layer in before_norms(before)}
    assert len(layers) == 3
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(new, 10 * old if id(old) in layers else old), name


def test_units_are_scaled_by_factors_from_1_to_the_factor():
    before = model("mlp", "batch")
    after = scaled(before, 10.0, torch.Generator().manual_seed(0))
    for old, new in zip(before_norms(before), before_norms(after), strict=True):
        ratios = (new.weight / old.weight).detach()
        assert torch.allclose(ratios, ratios[:, :1].expand_as(ratios))
        assert 1 <= float(ratios.min()) < float(ratios.max()) <= 10
