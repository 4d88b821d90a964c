"""The perceptron: a naive write-out, residuals, shapes it refuses."""

from functools import partial

import pytest
import torch

from normlab.config.schema import InputError, Sizes
from normlab.models.mlp import MLP
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm

SIZES = Sizes("images", (1, 4, 5), outputs=3)
FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "tanh": torch.tanh,
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("activation", FORMULAS)
def test_equals_a_naive_write_out(activation, residual):
    model = MLP(partial(LayerNorm), SIZES, width=8, depth=3, activation=activation, residual=residual).double()
    images = torch.randn(5, 1, 4, 5, dtype=torch.float64)

    x = images.reshape(5, 20)
    for layer in range(3):
        z = x @ model.linears[layer].weight.T + model.linears[layer].bias
        z = (z - z.mean(1, keepdim=True)) / torch.sqrt(z.var(1, correction=0, keepdim=True) + 1e-5)
        y = FORMULAS[activation](z)
        x = x + y if residual and layer > 0 else y
    expected = x @ model.head.weight.T + model.head.bias

    torch.testing.assert_close(model(images), expected, rtol=1e-12, atol=1e-12)


def test_a_deep_relu_net_without_norm_keeps_the_size_of_its_signal():
    torch.manual_seed(0)
    model = MLP(partial(NoNorm), SIZES, width=256, depth=30)
    signal = model.linears[0](torch.randn(64, 20))
    for linear in model.linears[1:]:
        signal = linear(signal.relu())
    assert 0.3 < signal.std() / 2**0.5 < 3


def test_takes_rows_of_one_length_only():
    model = MLP(partial(NoNorm), Sizes("features", (6, 3), outputs=2))
    assert model(torch.randn(4, 6, 3)).shape == (4, 2)
    with pytest.raises(InputError, match="examples of shape"):
        model(torch.randn(4, 5, 3))
    with pytest.raises(InputError, match="any length"):
        model(torch.randn(4, 6, 3), torch.ones(4, 6, dtype=torch.bool))
