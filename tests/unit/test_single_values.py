"""Norms whose statistics would be taken over a single value are refused before training, for every norm and layout."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from norm_sites import BATCH, CASES, Site, build, tried
from normlab.config.schema import InputError, Sizes
from normlab.models.cnn import CNN
from normlab.models.lstm import LSTM
from normlab.models.mlp import MLP
from normlab.models.statistics import check_statistics
from normlab.models.transformer import Transformer
from normlab.norms.batch import BatchNorm
from normlab.norms.group import GroupNorm
from normlab.norms.instance import InstanceNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.layer_channel import LayerChannelNorm
from normlab.norms.none import NoNorm


def images(side: int, examples: int = 50) -> Sizes:
    return Sizes("images", (1, side, side), outputs=3, examples=examples)


def texts(shortest: int) -> Sizes:
    return Sizes("tokens", (6,), outputs=3, vocabulary=9, positions=6, shortest=shortest, examples=50)


REFUSED = [
    (
        CNN,
        partial(InstanceNorm),
        images(8),
        4,
        r"at blocks\.2\.norm1 \(the image is 1 x 1 there\).*norm=layer",
    ),
    (partial(CNN, width=8), partial(GroupNorm, groups=8), images(2), 4, "group .*the image is 1 x 1"),
    (CNN, partial(BatchNorm), images(8), 1, "batch .*1 of 1 examples"),
    (CNN, partial(BatchNorm, nbs=1), images(8), 4, "batch .*1 of 4 examples"),
    (CNN, partial(BatchNorm), images(8, examples=1), None, "the training split has 1"),
    (partial(CNN, width=1), partial(LayerChannelNorm), images(28), 4, "1 of 1 channels"),
    (MLP, partial(BatchNorm), images(28), 1, r"norms\.0 \(1 of 1 examples"),
    (MLP, partial(BatchNorm), images(28, examples=1), None, "the training split has 1"),
    (MLP, partial(BatchNorm, nbs=4), images(28), 65, "1 of 65 examples"),
    (partial(MLP, width=1), partial(LayerNorm), images(28), 4, "1 of 1 channels"),
    (LSTM, partial(BatchNorm), texts(1), 1, r"norm_x \(1 of 1 examples"),
    (partial(LSTM, width=1), partial(LayerNorm), texts(3), 4, r"norm_c \(1 of 1 channels"),
    (Transformer, partial(InstanceNorm), texts(1), 4, "the shortest training sequence has 1 time step.*norm=layer"),
    (Transformer, partial(BatchNorm), texts(1), 1, "1 of 1 examples"),
]


@pytest.mark.parametrize(("model", "norm", "sizes", "batch", "message"), REFUSED)
def test_a_single_value_is_refused(model, norm, sizes, batch, message):
    with pytest.raises(InputError, match=message):
        check_statistics(model(norm, sizes), sizes, batch)


@pytest.mark.parametrize(
    ("model", "norm", "sizes", "batch"),
    [
        (CNN, partial(InstanceNorm), images(9), 1),
        (CNN, partial(InstanceNorm), images(16), 4),
        (CNN, partial(BatchNorm), images(8), 2),
        (CNN, partial(BatchNorm), images(28), 1),
        (CNN, partial(LayerNorm), images(2), 1),
        (CNN, partial(NoNorm), images(1), 1),
        (MLP, partial(BatchNorm), images(8), 2),
        (MLP, partial(BatchNorm, nbs=4), images(8), 66),
        (Transformer, partial(InstanceNorm), texts(2), 1),
        (Transformer, partial(BatchNorm), texts(2), 1),
        (LSTM, partial(LayerNorm), texts(1), 1),
    ],
)
def test_two_values_are_enough(model, norm, sizes, batch):
    check_statistics(model(norm, sizes), sizes, batch)


def test_the_check_leaves_the_model_and_the_random_numbers_as_they_were():
    torch.manual_seed(0)
    model = CNN(partial(InstanceNorm), images(16), width=4)
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    check_statistics(model, images(16))
    assert model.training
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(("name", "site"), tried([c for c in CASES if not c[1].name.startswith("recurrent")]))
@given(sizes=st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 2)))
@settings(max_examples=8, deadline=None)
def test_one_value_by_the_declared_axes_is_one_that_the_input_cannot_move(name: str, site: Site, sizes):
    """At 16 channels, in groups of 2: the count is 1 exactly where the output is the bias whatever comes in."""
    batch, *places = sizes
    lengths = {"B": batch, **dict(zip("HW" if site.layout == "BCHW" else "T", places, strict=False))}
    shape = {"BC": (batch, 16), "BCHW": (batch, 16, *places), "BTC": (batch, places[0], 16)}[site.layout]
    norm = build(name, site).double().train()
    found = norm.values_per_statistic(lengths)
    if found is None:
        assert name in ("none", "dyt", "derf", "hard_tanh")
        return
    torch.manual_seed(0)
    one, other = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    if name == "frn":  # without centring, one value leaves its sign
        one, other = 1 + one.abs(), 1 + other.abs()
    if name in BATCH and found == 1:  # it takes the running statistics instead
        assert batch == 1
        return
    same = torch.allclose(norm(one), norm(other), atol=1e-3)
    assert same == (found == 1)
