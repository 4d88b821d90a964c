"""The convolutional network: shapes, placements, shortcuts."""

from functools import partial
from itertools import product

import pytest
import torch
from torch import nn

from normlab.config.schema import InputError, Sizes
from normlab.models.cnn import CNN
from normlab.norms.batch import BatchNorm
from normlab.norms.evo_s import EvoNormS
from normlab.norms.grn import GlobalResponseNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.none import NoNorm
from normlab.norms.scale import ScaleNorm
from normlab.norms.simple_rms import SimpleRMSNorm

SIZES = Sizes("images", (3, 9, 8), outputs=4)


@pytest.mark.parametrize(
    ("placement", "residual", "depth"), list(product(["post_conv", "pre_activation"], [True, False], [1, 2]))
)
def test_equals_a_naive_write_out(placement, residual, depth):
    options = {"width": 4, "stages": 2, "depth": depth, "residual": residual, "placement": placement}
    model = CNN(partial(LayerNorm), SIZES, stem_stride=1, **options).double()
    images = torch.randn(2, 3, 9, 8, dtype=torch.float64)

    def norm(x):
        return nn.functional.group_norm(x, 1)

    x = model.stem(images)
    if placement == "post_conv":
        x = norm(x).relu()
    for i, block in enumerate(model.blocks):
        a = x if placement == "post_conv" else norm(x).relu()
        y = block.conv2(norm(block.conv1(a)).relu())
        y = norm(y) if placement == "post_conv" else y
        if residual and i == depth:  # the first block of the second stage halves the image
            x = norm(block.shortcut(a)) if placement == "post_conv" else block.shortcut(a)
        x = x + y if residual else y
        x = x.relu() if placement == "post_conv" else x
    if placement == "pre_activation":
        x = norm(x).relu()
    assert x.shape == (2, 8, 5, 4)

    torch.testing.assert_close(model(images), model.head(x.mean((2, 3))), rtol=1e-12, atol=1e-12)


def test_counts_its_convolutions():
    model = CNN(partial(NoNorm), SIZES, stages=3, depth=2, residual=False)
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 2 * 2 * 3 + 1


def test_a_stride_in_the_stem_halves_all_later_stages():
    stem = CNN(partial(NoNorm), SIZES, width=4, stem_stride=2).stem
    assert stem(torch.randn(2, 3, 9, 8)).shape == (2, 4, 5, 4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 28, 28), (3, 32, 20)])
def test_takes_any_image(shape):
    model = CNN(partial(NoNorm), Sizes("images", shape, outputs=5), width=2)
    assert model(torch.randn(2, *shape)).shape == (2, 5)


def test_with_a_last_gain_of_zero_a_block_starts_as_its_shortcut():
    model = CNN(partial(LayerNorm), SIZES, width=4, stages=2, depth=2, zero_last_gain=True)
    for block in model.blocks:
        assert not block.norm2.gain.any()
        assert block.norm1.gain.all()
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(model.blocks[0](x), x.relu())


@pytest.mark.parametrize("norm", [NoNorm, SimpleRMSNorm, GlobalResponseNorm])
def test_a_last_gain_needs_a_norm_that_it_makes_zero(norm):
    with pytest.raises(InputError, match="has none that makes its output 0"):
        CNN(partial(norm), SIZES, width=4, zero_last_gain=True)


@pytest.mark.parametrize("norm", [BatchNorm, ScaleNorm, EvoNormS])
def test_other_last_gains_start_at_zero_too(norm):
    model = CNN(partial(norm), SIZES, width=8, stages=1, zero_last_gain=True)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(model.blocks[0](x), x.relu())
    assert model.training
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("options", [{"residual": False}, {"placement": "pre_activation"}])
def test_a_last_gain_needs_a_norm_at_the_end_of_a_branch(options):
    with pytest.raises(InputError, match=r"post_conv and model\.residual=true"):
        CNN(partial(LayerNorm), SIZES, zero_last_gain=True, **options)
