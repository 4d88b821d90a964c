"""Coupling: the axes of every norm at every site, exact zeros in every model, known sizes."""

import pytest
import torch
from torch import nn

from norm_sites import BATCH, CASES, NORMS, build, config, some_norms, tried
from normlab.config.schema import InputError, Sizes
from normlab.measures.sample_coupling import SITES, coupling, model_couplings, norm_sites, site_couplings
from normlab.models.build import build_model

# What gradients see of the statistics; detached_layer hides its own from them. Options as in the YAML.
AXES = {
    "none": {"BC": "", "BCHW": "", "BTC": "", "recurrent": ""},
    "dyt": {"BC": "", "BCHW": "", "BTC": "", "recurrent": ""},
    "detached_layer": {"BC": "", "BCHW": "", "BTC": "", "recurrent": ""},
    "batch": {"BC": "B", "BCHW": "BHW", "BTC": "BT", "recurrent": "B"},
    "layer": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
    "layer_channel": {"BC": "C", "BCHW": "C", "BTC": "C", "recurrent": "C"},
    "instance": {"BCHW": "HW", "BTC": "T"},
    "group": {"BC": "C", "BCHW": "CHW", "BTC": "TC", "recurrent": "C"},
    "rms": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
    "derf": dict.fromkeys(SITES, ""),
    "hard_tanh": dict.fromkeys(SITES, ""),
    "simple_rms": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
    "scale": dict.fromkeys(SITES, "C"),
    "unit": dict.fromkeys(SITES, "C"),
    "seed": dict.fromkeys(SITES, "C"),
    "ada": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
    "frn": {"BCHW": "HW"},
    "grn": {"BCHW": "CHW"},
    "evo_s": {"BCHW": "CHW"},
    "batch_renorm": {"BC": "B", "BCHW": "BHW", "BTC": "BT", "recurrent": "B"},
    "regularized_batch": {"BC": "B", "BCHW": "BHW", "BTC": "BT", "recurrent": "B"},
    "frozen_batch": {"BC": "B", "BCHW": "BHW", "BTC": "BT", "recurrent": "B"},
    "evo_b": {"BCHW": "BHW"},
    "switchable": {"BCHW": "BCHW"},
}
# in eval mode, of norms that read other examples in training; all others have the same there
IN_EVALUATION = {
    "batch": dict.fromkeys(SITES, ""),
    "batch_renorm": dict.fromkeys(SITES, ""),
    "frozen_batch": dict.fromkeys(SITES, ""),
    "regularized_batch": dict.fromkeys(SITES, ""),
    "evo_b": {"BCHW": "HW"},
    "switchable": {"BCHW": "CHW"},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Many threads cost tiny tensors more time than they save."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def axes(couplings: dict[str, float | None]) -> str:
    return "".join(axis for axis, value in couplings.items() if value != 0.0)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NORMS)
def test_every_norm_has_the_axes_that_it_says(name, training):
    sites = norm_sites(config(name), gain_init=1.0)  # with its own, of 0, grn starts as the identity
    found = {kind: axes(site_couplings(norm.train(training), SITES[kind][1])) for kind, norm in sites.items()}
    assert found == (AXES if training else AXES | IN_EVALUATION)[name]


@pytest.mark.parametrize(("name", "site"), tried([c for c in CASES if c[1].name in SITES]))
def test_gains_and_statistics_do_not_change_the_axes(name, site):
    assert axes(site_couplings(build(name, site).train(), SITES[site.name][1])) == AXES[name][site.name]


@pytest.mark.parametrize(
    ("name", "options", "kind", "expected"),
    [
        ("batch", {"pool": "positions"}, "BTC", "B"),
        ("batch", {"nbs": 1}, "BTC", "T"),
        ("batch", {"nbs": 1}, "BCHW", "HW"),
        ("batch", {"nbs": 2}, "BC", "B"),
        ("group", {"groups": 1}, "BC", "C"),
        ("rms", {"with_bias": True}, "BTC", "C"),
    ],
)
def test_options_change_the_axes(name, options, kind, expected):
    norm = norm_sites({**config(name), **options})[kind]
    assert axes(site_couplings(norm.train(), SITES[kind][1])) == expected


def test_a_norm_is_left_out_where_it_is_refused():
    assert "BC" not in norm_sites({**config("batch"), "nbs": 1})
    assert "BC" not in norm_sites(dict(config("instance")))


def test_statistics_of_the_evaluated_batch_couple_in_eval_mode_too():
    norm = norm_sites({**config("batch"), "evaluation": "batch"})["BC"].eval()
    assert axes(site_couplings(norm, "BC")) == "B"


def test_batch_norm_couples_as_much_as_its_formula_says():
    """At `BC`: ∂y_i/∂x_j = (δ_ij - 1/B - ŷ_i ŷ_j / B) / √(σ² + eps), with ŷ = y but for eps."""
    norm = norm_sites(dict(config("batch")))["BC"].train()
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    std = (x.var(0, correction=0) + 1e-5).sqrt()
    y = (x - x.mean(0)) / std
    same = torch.eye(3, dtype=torch.float64)[..., None]
    jacobian = (same - 1 / 3 - y[:, None] * y[None] / 3).abs() / std
    own = jacobian.diagonal().max()
    others = (jacobian * (1 - same)).max()
    assert site_couplings(norm, "BC")["B"] == pytest.approx(float(others / own), rel=1e-10)


def test_coupling_is_the_greatest_beside_the_diagonal():
    sizes = torch.tensor([[2.0, 1.0, 0.5], [3.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    assert coupling(sizes) == 3 / 4
    assert coupling(sizes, future=True) == 1 / 4
    assert coupling(torch.diag(sizes.diag())) == 0.0
    assert coupling(torch.zeros(2, 2)) is None


IMAGES = Sizes("images", (1, 8, 8), outputs=3)
TEXT = Sizes("tokens", (6,), outputs=11, vocabulary=11, positions=6, causal=True)
WORDS = Sizes("tokens", (6,), outputs=3, vocabulary=11, positions=6)
SMALL = {
    "mlp": ({"width": 16, "depth": 2}, IMAGES),
    "cnn": ({"width": 8, "stages": 2}, IMAGES),
    "lstm": ({"width": 16, "embedding": 8}, TEXT),
    "transformer": ({"width": 16, "layers": 2, "heads": 2}, TEXT),
}


def couplings(norm: dict, model: str, training: bool, sizes: Sizes | None = None, **options):
    torch.manual_seed(0)
    small, usual = SMALL[model]
    sizes = sizes or usual
    classes = {"mlp": "MLP", "cnn": "CNN", "lstm": "LSTM", "transformer": "Transformer"}
    node = {"_target_": f"normlab.models.{model}.{classes[model]}", **small, **options}
    built = build_model(norm, node, sizes).double().train(training)
    generator = torch.Generator().manual_seed(1)
    if sizes.kind == "images":
        return model_couplings(built, torch.randn(4, *sizes.shape, generator=generator))
    mask = None if sizes.causal else torch.arange(6) < torch.tensor([[3], [6], [4], [5]])
    return model_couplings(built, torch.randint(1, 11, (4, 6), generator=generator), mask)


REFUSED = [
    *((name, model) for name in ("frn", "grn", "evo_s", "evo_b", "switchable") for model in SMALL if model != "cnn"),
    ("instance", "mlp"),
    ("instance", "lstm"),
    ("instance", "transformer"),
    ("group", "transformer"),
]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize("name", some_norms(NORMS))
def test_only_batch_norms_in_training_couples_examples(name, model, training):
    try:
        found = couplings(dict(config(name)), model, training)
    except InputError:
        assert (name, model) in REFUSED
        return
    assert (found["examples"] != 0.0) == (name in BATCH and training)
    if model in ("lstm", "transformer"):
        assert found["positions"] != 0.0  # the model itself reads earlier positions
        assert (found["future"] != 0.0) == (name in BATCH and training and model == "transformer")
    else:
        assert set(found) == {"examples"}


@pytest.mark.parametrize("norm_position", ["pre", "post", "sandwich"])
def test_batch_norm_by_position_does_not_see_the_future(norm_position):
    node = {**config("batch"), "pool": "positions"}
    found = couplings(node, "transformer", True, norm_position=norm_position)
    assert found["examples"] > 0
    assert found["future"] == 0.0
    assert couplings(dict(config("batch")), "transformer", True, norm_position=norm_position)["future"] > 0


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_padded_words_are_coupled_by_batch_norm_alone(model):
    assert couplings(dict(config("layer")), model, True, WORDS) == {"examples": 0.0}
    assert couplings(dict(config("batch")), model, True, WORDS)["examples"] > 0


def test_a_model_that_mixes_examples_or_looks_ahead_is_found_out():
    class Mixes(nn.Module):
        def forward(self, x, _mask):
            return x + 1e-300 * x.roll(1, 0)

    class LooksAhead(nn.Module):
        def forward(self, x, _mask):
            return x.cumsum(1) + 0.5 * x.roll(-1, 1)

    x = torch.randn(3, 5, 2)
    assert model_couplings(Mixes(), x[:, 0])["examples"] > 0
    found = model_couplings(LooksAhead(), x)
    assert found["examples"] == 0.0
    assert found["future"] > 0


def test_positions_are_those_of_one_example():
    class Mixes(nn.Module):
        def forward(self, x, _mask):
            return x + x.roll((1, 1), (0, 1))

    found = model_couplings(Mixes(), torch.randn(3, 5, 2))
    assert found["examples"] > 0
    assert found["positions"] == found["future"] == 0.0


def test_an_axis_is_one_along_which_alone_entries_are_coupled():
    class Diagonal(nn.Module):
        num_features = 3

        def forward(self, x):
            return x + x.roll((1, 1), (2, 3))

    assert site_couplings(Diagonal(), "BCHW") == {"B": 0.0, "C": 0.0, "H": 0.0, "W": 0.0}
