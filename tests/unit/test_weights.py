"""Weights as functions of other parameters, and branches without norms."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from normlab.config.schema import InputError, Sizes
from normlab.models.cnn import CNN
from normlab.models.fold import fold
from normlab.models.lstm import LSTM
from normlab.models.mlp import MLP
from normlab.models.transformer import Transformer
from normlab.norms.batch import BatchNorm
from normlab.norms.group import GroupNorm
from normlab.norms.none import NoNorm
from normlab.weights.parametrised import Standardised, WeightNorm, parametrise

IMAGES = Sizes("images", (1, 8, 8), outputs=3)
TOKENS = Sizes("tokens", (5,), outputs=3, vocabulary=7, positions=5)
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def built(kind, norm=NoNorm, **options):
    torch.manual_seed(0)
    return kind(partial(norm), IMAGES if kind in (CNN, MLP) else TOKENS, width=8, **options).double()


def example(kind):
    torch.manual_seed(1)
    return torch.randn(4, 1, 8, 8, dtype=torch.float64) if kind in (CNN, MLP) else torch.randint(7, (4, 5))


@pytest.mark.parametrize("kind", [CNN, MLP, LSTM, partial(Transformer, heads=2)])
def test_weight_norm_changes_no_function_at_first(kind):
    name = getattr(kind, "func", kind)
    plain, split = built(kind), built(kind, weights="weight_norm")
    torch.testing.assert_close(split(example(name)), plain(example(name)), rtol=1e-6, atol=1e-6)
    lengths = [p for path, p in split.named_parameters() if path.endswith("original0")]
    assert lengths
    assert all(p.ndim == 1 for p in lengths)  # spared by weight decay


def test_weight_norm_is_torchs():
    ours, theirs = nn.Conv2d(3, 4, 3).double(), nn.Conv2d(3, 4, 3).double()
    theirs.load_state_dict(ours.state_dict())
    nn.utils.parametrize.register_parametrization(ours, "weight", WeightNorm())
    nn.utils.parametrizations.weight_norm(theirs)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), **EXACT)
    one, other = (torch.autograd.grad(layer(x).square().sum(), list(layer.parameters())) for layer in (ours, theirs))
    for mine, their in zip(one, other, strict=True):
        torch.testing.assert_close(mine.flatten(), their.flatten(), **EXACT)


def test_standardised_weights_are_centred_and_keep_the_layers_scale():
    weight = 3 + 0.1 * torch.randn(5, 4, 3, 3, dtype=torch.float64)
    made = Standardised(weight)(weight).flatten(1)
    torch.testing.assert_close(made.mean(1), torch.zeros(5, dtype=torch.float64), rtol=0, atol=1e-10)
    assert ((made.std(1, correction=0) / weight.square().mean().sqrt()) < 1.001).all()


@pytest.mark.parametrize(
    "function", [Standardised(torch.ones(3, 4, dtype=torch.float64)), lambda w: WeightNorm()(w[:, 0], w)]
)
def test_gradients_are_right(function):
    torch.manual_seed(2)
    assert torch.autograd.gradcheck(function, torch.randn(3, 4, dtype=torch.float64, requires_grad=True))


def test_standardised_weights_of_a_single_input_would_be_zero():
    with pytest.raises(InputError, match="a layer with a single input"):
        parametrise([nn.Linear(1, 4)], "standardised")
    parametrise([nn.Linear(1, 4)], "weight_norm")


def test_spectral_weights_have_norm_one():
    model = built(MLP, weights="spectral").train()
    for _ in range(50):
        model(example(MLP))
    largest = [torch.linalg.matrix_norm(linear.weight, 2).item() for linear in model.linears]
    assert largest == pytest.approx([1.0] * 4, abs=1e-3)


@pytest.mark.parametrize("weights", ["standardised", "weight_norm", "spectral"])
def test_a_step_a_state_and_a_fold(weights):
    model = built(CNN, BatchNorm, weights=weights).train()
    model(example(CNN)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    other = CNN(partial(BatchNorm), IMAGES, width=8, weights=weights).double()
    other.load_state_dict(model.state_dict())
    x = example(CNN)
    torch.testing.assert_close(other.eval()(x), model.eval()(x), **EXACT)
    folded = fold(model)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-9, atol=1e-9)
    assert not any(nn.utils.parametrize.is_parametrized(module) for module in folded.modules())


def test_groups_with_standardised_weights_ignore_the_weights_scale():
    """Big Transfer's combination: the function depends on no convolution's scale or mean."""
    model = built(CNN, partial(GroupNorm, groups=2), weights="standardised")
    x = example(CNN)
    before = model(x)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if path.endswith("weight.original") and "stem" not in path:
                parameter.mul_(7).add_(1)
    torch.testing.assert_close(model(x), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("init", "placement"), [("fixup", "post_conv"), ("skipinit", "post_conv"), ("skipinit", "pre_activation")]
)
def test_branches_begin_at_nothing_and_learn(init, placement):
    model = built(CNN, init=init, placement=placement, depth=2)
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    expected = x.relu() if placement == "post_conv" else x
    torch.testing.assert_close(model.blocks[0](x), expected, **EXACT)
    if init == "fixup":
        assert not model(example(CNN)).any()
        assert model.blocks[0].conv1.weight.std().item() == pytest.approx((2 / (9 * 8) / 6) ** 0.5, rel=0.2)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        (model(example(CNN)) - 1).square().sum().backward()
        optimiser.step()
    assert not torch.allclose(model.blocks[0](x), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"norm": BatchNorm, "init": "skipinit"}, "norm=none"),
        ({"init": "fixup", "residual": False}, "residual=true"),
        ({"init": "fixup", "placement": "pre_activation"}, "post_conv"),
        ({"init": "fixup", "weights": "weight_norm"}, "weights=plain"),
    ],
)
def test_refused_inits(options, said):
    with pytest.raises(InputError, match=said):
        built(CNN, **options)
