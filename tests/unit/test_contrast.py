"""Pairing two arms by seed."""

import argparse

import pandas as pd
import pytest

from normlab.commands import compare
from normlab.config.schema import InputError
from normlab.tables.contrast import Contrast, check_numbers, contrast

ROWS = [
    {
        "id": f"{norm}-{seed}",
        "norm": norm,
        "seed": seed,
        "optim.lr": 0.01,
        "diverged": False,
        "validation/accuracy": value,
    }
    for norm, values in {"layer": (0.7, 0.8, 0.9), "batch": (0.6, 0.8, 0.7)}.items()
    for seed, value in enumerate(values)
]
LAYER, BATCH, METRIC = "norm == 'layer'", "norm == 'batch'", "validation/accuracy"


def test_pairs_by_seed_whatever_the_order():
    frame = pd.DataFrame(ROWS).sample(frac=1, random_state=0)
    found = contrast(frame, LAYER, BATCH, METRIC)
    assert found.seeds == [0, 1, 2]
    assert found.differences == pytest.approx([0.1, 0.0, 0.2])
    assert contrast(frame, BATCH, LAYER, METRIC).differences == pytest.approx([-0.1, 0.0, -0.2])


def test_seeds_of_one_arm_only_are_left_out_and_named():
    found = contrast(pd.DataFrame(ROWS[:-1]), LAYER, BATCH, METRIC)
    assert (found.seeds, found.alone) == ([0, 1], [2])


def test_a_run_that_diverged_counts():
    frame = pd.DataFrame(ROWS)
    frame.loc[frame["id"] == "batch-1", ["diverged", METRIC]] = [True, float("nan")]
    with pytest.raises(InputError, match="batch-1 diverged"):
        contrast(frame, LAYER, BATCH, METRIC)
    found = contrast(frame, LAYER, BATCH, METRIC, diverged_value=0.1)
    assert found.differences == pytest.approx([0.1, 0.7, 0.2])
    assert found.diverged == (0, 1)


def test_a_summary_without_divergence_is_fine():
    frame = pd.DataFrame(ROWS).drop(columns="diverged")
    assert contrast(frame, LAYER, BATCH, METRIC).diverged == (0, 0)


@pytest.mark.parametrize(
    ("first", "second", "metric", "why"),
    [
        (LAYER, BATCH, "validation/loss", "no run has validation/loss.*validation/accuracy"),
        (LAYER, "norm == 'rms'", METRIC, "no run fulfils"),
        (LAYER, "seed >= 0", METRIC, r"selects 2 runs of seed 0, which differ in norm"),
        (LAYER, "norm == 'layer' and seed < 2", METRIC, "not two different arms"),
        ("norm == 'layer' and seed == 0", BATCH, METRIC, "1 seed in common"),
    ],
)
def test_what_is_no_contrast_is_refused(first, second, metric, why):
    with pytest.raises(InputError, match=why):
        contrast(pd.DataFrame(ROWS), first, second, metric)


def test_runs_that_differ_within_an_arm_are_told():
    more = [{**row, "id": f"{row['id']}-b", "optim.lr": 0.1} for row in ROWS]
    with pytest.raises(InputError, match=r"differ in optim\.lr: narrow"):
        contrast(pd.DataFrame([*ROWS, *more]), LAYER, BATCH, METRIC)


def test_a_missing_value_is_named():
    frame = pd.DataFrame(ROWS)
    frame.loc[frame["id"] == "layer-2", METRIC] = None
    with pytest.raises(InputError, match="layer-2 has no validation/accuracy"):
        contrast(frame, LAYER, BATCH, METRIC)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((5.0, None, None), "--alpha 5 must lie between 0 and 1"),
        ((0.0, None, None), "--alpha 0 must"),
        ((float("nan"), None, None), "--alpha nan must"),
        ((0.05, -1.0, None), "--margin -1 must be a number above 0"),
        ((0.05, float("inf"), None), "--margin inf must"),
        ((0.05, None, float("nan")), "--diverged nan must be a finite number"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(numbers, words):
    with pytest.raises(InputError, match=words):
        check_numbers(*numbers)


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("validation/accuracy", ["mean 81.5\N{NO-BREAK SPACE}%", "+1.5 points", "sd 0.5345 points", "of 1 point is"]),
        ("validation/loss", ["mean 0.815", "+0.015,", "sd 0.005345", "of 0.01 is"]),
    ],
)
def test_accuracies_are_compared_in_points_and_other_metrics_in_their_unit(metric, told, capsys):
    pair = Contrast(metric, list(range(8)), [0.81, 0.82] * 4, [0.80] * 8, alone=[], diverged=(0, 0))
    compare.show(argparse.Namespace(first="a", second="b", alpha=0.05, margin=0.01), pair, [])
    out = capsys.readouterr().out
    assert not [words for words in told if words not in out]
