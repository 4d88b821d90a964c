"""Folding is exact, or refused with the reason."""

from functools import partial
from itertools import product

import pytest
import torch

from normlab.config.schema import InputError, Sizes
from normlab.models.cnn import CNN
from normlab.models.fold import fold
from normlab.models.lstm import LSTM
from normlab.models.mlp import MLP
from normlab.models.transformer import Transformer
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm

IMAGES = Sizes("images", (1, 8, 8), outputs=3)
TOKENS = Sizes("tokens", (5,), outputs=3, vocabulary=7, positions=5)


def trained(model):
    """The model with gains, biases and statistics that are no longer the initial ones."""
    model = model.double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for _ in range(3):
            model(torch.randn(16, 1, 8, 8, dtype=torch.float64) + 1)
    return model


def assert_folds(model):
    model = trained(model)
    folded = fold(model)
    images = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    assert model.training
    assert not any(isinstance(module, Norm) for module in folded.modules())
    torch.testing.assert_close(folded(images), model.eval()(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("residual", "depth"), list(product([True, False], [1, 2])))
def test_post_conv_batch_norm_folds(residual, depth):
    assert_folds(CNN(partial(BatchNorm), IMAGES, width=4, depth=depth, residual=residual))


def test_plain_pre_activation_batch_norm_folds():
    assert_folds(CNN(partial(BatchNorm), IMAGES, width=4, placement="pre_activation", residual=False))


@pytest.mark.parametrize("norm", [BatchNorm, NoNorm])
@pytest.mark.parametrize("residual", [True, False])
def test_mlp_folds(norm, residual):
    assert_folds(MLP(partial(norm), IMAGES, width=4, residual=residual))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: CNN(partial(BatchNorm), IMAGES, placement="pre_activation"), "norm1 .* sum of branches"),
        (lambda: CNN(partial(LayerNorm), IMAGES), "norm=layer is not a fixed affine map"),
        (lambda: MLP(partial(BatchNorm, evaluation="batch"), IMAGES), "norm=batch is not a fixed affine map"),
        (lambda: LSTM(partial(BatchNorm), TOKENS), "norm_x .* time step"),
        (lambda: Transformer(partial(BatchNorm), TOKENS), "before.0 .* padding"),
    ],
)
def test_refuses_what_is_not_exact(model, reason):
    with pytest.raises(InputError, match=reason):
        fold(model())


def test_refuses_to_fold_twice():
    folded = fold(MLP(partial(BatchNorm), IMAGES))
    with pytest.raises(InputError, match="already folded"):
        fold(folded)
