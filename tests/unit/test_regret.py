"""Advice on a data set from the model's other data sets."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts/publish"))

from regret import FINDING, held_out, page


def rows(**means):
    """Two seeds of each cell, around its mean."""
    return [
        {"arm": arm, "condition": condition, "seed": seed, "id": "x", "test/accuracy": mean + 0.01 * (2 * seed - 1)}
        for condition, (batch, layer) in means.items()
        for arm, mean in (("batch", batch), ("layer", layer))
        for seed in (0, 1)
    ]


def test_the_norm_that_is_best_elsewhere_is_advised():
    cases = held_out(FINDING, rows(mlp_clothes=(0.8, 0.7), mlp_signals=(0.5, 0.9), mlp_pictures=(0.6, 0.7)))
    assert {case.data: case.advised for case in cases} == {
        "fashion_mnist": "layer",
        "mnist1d": "batch",
        "emoji": "layer",
    }
    losses = {case.data: case.regret(case.advised) for case in cases}
    assert losses == pytest.approx({"fashion_mnist": 0.1, "mnist1d": 0.4, "emoji": 0.0})
    assert [case.regret("batch") for case in cases] == pytest.approx([0.0, 0.4, 0.1])


def test_a_model_with_one_data_set_or_half_of_one_is_left_out():
    half = [
        row
        for row in rows(lstm_rows=(0.5, 0.6), lstm_words=(0.5, 0.6))
        if row["condition"] == "lstm_rows" or row["arm"] == "batch"
    ]
    assert held_out(FINDING, half) == []


def test_a_run_that_diverged_counts_as_chance():
    found = rows(cnn_clothes=(0.9, 0.8), cnn_pictures=(0.9, 0.8))
    found[0] |= {"diverged": True}
    (case, _) = held_out(FINDING, found)
    assert case.scores["batch"] == pytest.approx((0.1 + 0.91) / 2)


def test_the_page_has_the_regret_of_each_choice_in_points():
    text = page(held_out(FINDING, rows(mlp_clothes=(0.8, 0.7), mlp_signals=(0.5, 0.9))))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    assert cells[0] == ["model", "data left out", "batch", "layer", "advised", "regret", "always batch", "always layer"]
    assert cells[2] == ["mlp", "fashion_mnist", "80.00", "70.00", "layer", "10.00", "0.00", "10.00"]
    assert cells[-1] == ["mean", "", "", "", "", "25.00", "20.00", "5.00"]
