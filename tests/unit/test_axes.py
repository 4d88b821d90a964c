"""Axes of the statistics: of every norm at every site, and the moments by hand."""

import numpy as np
import pytest
import torch

from norm_sites import BATCH, NORMS, config
from normlab.measures.axes import OVER, furthest_moments, over_all, site_axes
from normlab.measures.sample_coupling import SITES, norm_sites

# the axes that move an output in training; of recurrent sites all steps at once
MOVED_BY = {
    "none": dict.fromkeys(SITES, ""),
    "dyt": dict.fromkeys(SITES, ""),
    "batch": {"BC": "B", "BCHW": "BHW", "BTC": "BT", "recurrent": "B"},
    "layer": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
    "layer_channel": dict.fromkeys(SITES, "C"),
    "instance": {"BCHW": "HW", "BTC": "T"},
    "group": {"BC": "C", "BCHW": "CHW", "BTC": "TC", "recurrent": "C"},
    "rms": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
    "detached_layer": {"BC": "C", "BCHW": "CHW", "BTC": "C", "recurrent": "C"},
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


def found(name: str, seed: int = 0, **options):
    sites = norm_sites({**config(name), **options}, gain_init=1.0)
    return {kind: site_axes(norm, kind, 32, seed) for kind, norm in sites.items()}


def moved(values: dict[str, float], kind: str, mode: str) -> str:
    return "".join(axis for axis in SITES[kind][1] if values[f"{mode}/site/{kind}/moved_by/{axis}"] != 0.0)


@pytest.mark.parametrize("name", MOVED_BY)
def test_what_moves_an_output_are_the_axes_of_its_statistics(name):
    assert {kind: moved(values, kind, "train") for kind, values in found(name).items()} == MOVED_BY[name]


@pytest.mark.parametrize("name", MOVED_BY)
def test_only_batch_norms_do_something_else_in_eval_mode(name):
    for kind, values in found(name).items():
        assert moved(values, kind, "eval") == (MOVED_BY | IN_EVALUATION)[name][kind]
        difference = values[f"site/{kind}/train_eval_difference"]
        assert difference > 0.1 if name in BATCH else difference == 0.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("name", "over"), [("batch", "batch"), ("layer", "features")])
def test_moments_over_the_claimed_axes_are_0_and_1_and_over_the_others_not(name, over, seed):
    for kind, values in found(name, seed).items():
        (other,) = set(OVER) - {over}
        assert abs(values[f"train/site/{kind}/mean_over_{over}"]) < 1e-12
        assert values[f"train/site/{kind}/variance_over_{over}"] == pytest.approx(1, abs=2e-3)
        assert abs(values[f"train/site/{kind}/mean_over_{other}"]) > 0.1
        assert abs(values[f"train/site/{kind}/variance_over_{other}"] - 1) > 0.1


def test_rms_norm_does_not_centre():
    for kind, values in found("rms").items():
        assert values[f"train/site/{kind}/square_over_features"] == pytest.approx(1, abs=1e-3)
        assert abs(values[f"train/site/{kind}/mean_over_features"]) > 0.1


def test_one_set_a_position_is_not_moved_by_other_positions():
    values = found("batch", pool="positions")["BTC"]
    assert moved(values, "BTC", "train") == "B"
    assert abs(values["train/site/BTC/mean_over_batch"]) < 1e-12


def test_the_furthest_moments_are_those_of_a_naive_write_out():
    y = np.random.default_rng(0).normal(size=(4, 3, 5)) * 2 + 1
    values = furthest_moments(torch.from_numpy(y), [0, 2])
    means, variances, squares = y.mean((0, 2)), y.var((0, 2)), (y**2).mean((0, 2))
    assert values["mean"] == pytest.approx(max(means, key=abs))
    assert values["variance"] == pytest.approx(max(variances, key=lambda v: abs(v - 1)))
    assert values["square"] == pytest.approx(max(squares, key=lambda v: abs(v - 1)))


def test_over_all_is_the_worst_site():
    both = {name: {k: v for values in found(name).values() for k, v in values.items()} for name in ("batch", "layer")}
    batch, layer = over_all(both["batch"]), over_all(both["layer"])
    assert batch["over_batch_error"] < 2e-3 < 0.1 < batch["over_features_error"]
    assert layer["over_features_error"] < 2e-3 < 0.1 < layer["over_batch_error"]
    assert batch["moved_by_features"] == layer["moved_by_examples"] == layer["train_eval_difference"] == 0.0
    assert min(batch["moved_by_examples"], layer["moved_by_features"], batch["train_eval_difference"]) > 0.1


def test_every_norm_is_held_to_its_axes():
    assert set(MOVED_BY) == set(NORMS)
