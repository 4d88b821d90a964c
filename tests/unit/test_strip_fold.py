"""Folded networks compute the same, and what would not be exact stays, with the reason."""

from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from normlab.config.errors import InputError
from normlab.config.schema import Sizes
from normlab.export.fold import strip
from normlab.models.base import Model
from normlab.models.cnn import CNN
from normlab.models.gru import GRU
from normlab.models.lstm import LSTM
from normlab.models.mlp import MLP
from normlab.models.transformer import Transformer
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.norms.dyt import DynamicTanh
from normlab.norms.group import GroupNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.layer_channel import LayerChannelNorm
from normlab.norms.rms import RMSNorm

IMAGES = Sizes("images", (1, 8, 8), outputs=3)
TOKENS = Sizes("tokens", (6,), outputs=3, vocabulary=7, positions=6)
TEXT = Sizes("tokens", (6,), outputs=7, vocabulary=7, positions=6, causal=True)
NORMS = {"layer": LayerNorm, "rms": RMSNorm, "batch": BatchNorm, "layer_channel": LayerChannelNorm, "dyt": DynamicTanh}
ids = torch.randint(1, 7, (5, 6), generator=torch.Generator().manual_seed(0))
mask = torch.arange(6) < torch.tensor([6, 3, 1, 2, 5])[:, None]
images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trained(model: Model, inputs: torch.Tensor) -> Model:
    """The model with gains, biases and statistics that are no longer the initial ones."""
    torch.manual_seed(0)
    model = model.double().train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for _ in range(3):
            model(inputs)
    return model.eval()


def difference(one: Model, other: Model, *arguments: torch.Tensor | None) -> float:
    with torch.no_grad():
        expected = one(*arguments)
        wrong = other(*arguments) - expected
    if len(arguments) > 1 and expected.ndim == 3:
        wrong = wrong[arguments[1]]
    return float(wrong.abs().max() / expected.abs().max())


def assert_exact(model: Model, inputs: torch.Tensor, real: torch.Tensor | None = None, *, single: bool = False):
    """The folded model in float64, without and with padding, and in float32 if `single`; returns what was done."""
    model = trained(model, inputs)
    found = strip(model, inputs, padded=real is not None)
    assert difference(model, found.model, inputs) <= 1e-10
    if real is not None:
        assert difference(model, found.model, inputs, real) <= 1e-10
    if single:
        model, inputs = model.float(), inputs.float() if inputs.is_floating_point() else inputs
        assert difference(model, strip(model, inputs, padded=real is not None).model, inputs, real) <= 1e-5
    return found


def test_a_pre_norm_transformer_needs_no_centring_and_no_gains():
    found = assert_exact(Transformer(partial(LayerNorm), TOKENS, width=8, layers=1, heads=2), ids)
    assert not found.left
    assert {path: [part.what for part in parts] for path, parts in found.done.items()} == {
        path: ["centring", "gain and bias"] for path in ("blocks.0.before.0", "blocks.0.before.1", "final_norm")
    }
    (first, _) = found.done["blocks.0.before.0"]
    assert first.into == ("blocks.0.attention.outward", "blocks.0.feed_forward.2", "embedding")
    assert not any(isinstance(module, Norm | nn.LayerNorm) for module in found.model.modules())
    written = found.model.blocks[0].attention.outward
    assert written.weight.mean(0).abs().max() < 1e-12
    assert written.bias.mean().abs() < 1e-12


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"norm_position": "post"}, "blocks.0.after.0"),
        pytest.param({"norm_position": "deepnorm"}, "blocks.0.after.0", marks=pytest.mark.slow),
        pytest.param({"norm_position": "sandwich"}, "blocks.0.before.0", marks=pytest.mark.slow),
        ({"norm_position": "inside", "final_norm": False}, None),
        pytest.param({"norm_position": "hybrid"}, "blocks.0.between", marks=pytest.mark.slow),
        ({"embedding_norm": True, "position_encoding": "learned"}, "final_norm"),
    ],
)
def test_placements_whose_centring_is_not_exact(options, left):
    found = assert_exact(Transformer(partial(LayerNorm), TOKENS, width=8, layers=1, heads=2, **options), ids, mask)
    centring = {path for path, reasons in found.left.items() if any(r.startswith("centring: ") for r in reasons)}
    assert left in centring if left else not centring


def test_tied_token_vectors_are_left_alone():
    model = Transformer(partial(LayerNorm), TEXT, width=8, layers=1, heads=2)
    assert model.head.weight is model.embedding.weight
    found = assert_exact(model, ids)
    assert found.model.head.weight is found.model.embedding.weight
    assert "is embedding.weight too: the layers share one weight, untie them" in found.left["final_norm"][0]
    assert [part.what for part in found.done["blocks.0.before.0"]] == ["gain and bias"]


def test_a_bias_does_not_move_behind_a_mean_over_real_steps():
    model = trained(Transformer(partial(LayerNorm), TOKENS, width=8, layers=1, heads=2), ids)
    found = strip(model, ids, padded=True)
    assert "mean over real steps" in found.left["final_norm"][0]
    none_real = torch.zeros_like(mask)
    assert difference(model, found.model, ids, none_real) <= 1e-10


@pytest.mark.parametrize("placement", ["post_conv", "pre_activation"])
def test_batch_norm_in_a_cnn(placement):
    found = assert_exact(CNN(partial(BatchNorm), IMAGES, width=4, stages=2, placement=placement), images)
    assert bool(found.left) == (placement == "pre_activation")


def test_batch_norm_in_a_transformer_moves_forwards():
    found = assert_exact(Transformer(partial(BatchNorm), TOKENS, width=8, layers=1, heads=2), ids)
    assert not found.left
    assert [str(part) for part in found.done["final_norm"]] == ["all of it moved into head"]


def test_layer_norm_of_channels_in_a_cnn():
    found = assert_exact(CNN(partial(LayerChannelNorm), IMAGES, width=4, stages=1), images)
    assert [part.what for part in found.done["norm"]] == ["centring"]


@pytest.mark.parametrize("norm", [LayerNorm, pytest.param(GroupNorm, marks=pytest.mark.slow)])
def test_norms_that_pool_pixels_stay(norm):
    build = partial(norm, groups=2) if norm is GroupNorm else partial(norm)
    found = assert_exact(CNN(build, IMAGES, width=4, stages=1), images)
    assert not found.done
    assert "over C, H, W" in found.left["norm"][0]


@pytest.mark.slow
@pytest.mark.parametrize("model", [LSTM, GRU])
@pytest.mark.parametrize("placement", ["inside", "input", "between"])
def test_recurrences(model, placement):
    assert_exact(
        model(partial(LayerNorm), TOKENS, width=4, placement=placement, gates="separate"), ids, mask, single=True
    )


def test_a_recurrence_without_a_cell_norm_keeps_its_compiled_loop():
    model = LSTM(partial(LayerNorm), TOKENS, width=4, cell_norm=False)
    assert assert_exact(model, ids, mask).model.kernel == model.kernel


def test_statistics_for_each_step_stay():
    found = assert_exact(LSTM(partial(BatchNorm), TOKENS, width=4), ids)
    assert found.left["layers.0.forwards.norm_h"] == ["it has statistics for each time step"]


@pytest.mark.parametrize("weights", ["weight_norm", pytest.param("spectral", marks=pytest.mark.slow)])
def test_weights_that_are_functions_of_others_become_plain(weights):
    found = assert_exact(MLP(partial(LayerNorm), IMAGES, width=4, depth=2, weights=weights), images)
    assert [part.what for part in found.done["norms.1"]] == ["centring"]


def test_the_model_itself_is_not_changed():
    model = trained(MLP(partial(BatchNorm), IMAGES, width=4), images)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    strip(model, images, padded=False)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_statistics_of_the_evaluated_batch_are_refused():
    with pytest.raises(InputError, match=r"norms.0 takes its statistics from the evaluated batch.*evaluation=running"):
        strip(MLP(partial(BatchNorm, evaluation="batch"), IMAGES), images, padded=False)
    net = Any(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)))
    with pytest.raises(InputError, match=r"track_running_stats=True"):
        strip(net, torch.randn(3, 4), padded=False)


def test_what_torch_export_cannot_take_is_one_line():
    class Branching(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(InputError, match=r"torch\.export can't take this network: ") as caught:
        strip(Any(Branching()), torch.randn(3, 4), padded=False)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    norm=st.sampled_from(list(NORMS)),
    position=st.sampled_from(["pre", "post", "sandwich", "inside", "hybrid", "deepnorm"]),
    qk_norm=st.sampled_from([False, True, "joint", "l2"]),
    encoding=st.sampled_from(["rotary", "learned"]),
    switches=st.fixed_dictionaries({name: st.booleans() for name in ("v_norm", "final_norm", "embedding_norm")}),
    weights=st.sampled_from(["plain", "weight_norm"]),
    text=st.booleans(),
    tied=st.booleans(),
)
def test_every_transformer(norm, position, qk_norm, encoding, switches, weights, text, tied):
    sizes = TEXT if text else TOKENS
    options = {"norm_position": position, "qk_norm": qk_norm, "position_encoding": encoding, "weights": weights}
    model = Transformer(
        partial(NORMS[norm]), sizes, width=8, layers=2, heads=2, tie_embedding=tied, **options, **switches
    )
    assert_exact(model, ids, None if text else mask, single=True)


class Any(Model):
    """Any network as a model."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs, mask=None):
        return self.net(inputs)


class Drawn(nn.Module):
    """Steps on values of one width. Modules are used as often as they are named, values read as often as they are."""

    def __init__(self, steps: list[tuple[str, int, int, int]], width: int = 4) -> None:
        super().__init__()
        self.steps = steps
        self.linears = nn.ModuleList(nn.Linear(width, width, bias=i > 0) for i in range(4))
        self.norms = nn.ModuleList(
            [nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width, bias=False), nn.RMSNorm(width, eps=1e-5)]
        )
        self.batch = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(4))
        self.shifts = nn.ParameterList(nn.Parameter(torch.randn(width)) for _ in range(4))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        values = [x]
        for kind, which, one, other in self.steps:
            a, b = values[-1 - one % len(values)], values[-1 - other % len(values)]
            if kind == "linear":
                y = self.linears[which](a)
            elif kind == "norm":
                y = self.norms[which](a)
            elif kind == "batch":
                y = self.batch[which](a)
            elif kind == "add":
                y = a + b
            elif kind == "shift":
                y = a - self.shifts[which]
            elif kind == "scale":
                y = a * (0.5 + which)
            elif kind == "cut":
                y = torch.cat(a.chunk(2, -1)[::-1], -1)
            else:
                y = a.relu()
            values.append(y)
        return self.head(values[-1])


KINDS = ("linear", "linear", "norm", "norm", "batch", "add", "add", "shift", "scale", "cut", "relu")
STEPS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 2), st.integers(0, 4)), min_size=2, max_size=9
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, tied=st.booleans())
def test_any_network_computes_the_same_folded(steps, tied):
    check_drawn(steps, tied)


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, tied=st.booleans())
def test_many_networks_compute_the_same_folded(steps, tied):
    check_drawn(steps, tied)


def check_drawn(steps, tied):
    torch.manual_seed(0)
    net = Drawn(steps)
    if tied:
        net.linears[1].weight = net.linears[2].weight
    inputs = torch.randn(5, 4, dtype=torch.float64)
    model = trained(Any(net), inputs)
    found = strip(model, inputs, padded=False)
    assert difference(model, found.model, inputs) <= 1e-10
