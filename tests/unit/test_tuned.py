"""Which runs of an arm that was tuned are compared."""

import pandas as pd
import pytest

from normlab.tables.tuned import at_chosen_rate

LAYER = "norm == 'layer'"


def table(*rows):
    """Runs as (norm, seed, rate, validation accuracy)."""
    return pd.DataFrame(
        {"id": f"run-{n}", "norm": norm, "seed": seed, "optim.lr": rate, "validation/accuracy": score}
        for n, (norm, seed, rate, score) in enumerate(rows)
    )


def test_seeds_with_several_rates_are_tuning_and_left_out():
    tuning = [("layer", seed, rate, 0.5) for seed in (1000, 1001) for rate in (0.01, 0.1)]
    reported = [("layer", seed, 0.1, 0.6) for seed in range(3)]
    left, (said,) = at_chosen_rate(table(*tuning, *reported), LAYER, "validation/accuracy")
    assert sorted(left["seed"]) == [0, 1, 2]
    assert said.startswith("left out: 4 runs of norm == 'layer', seeds 1000, 1001")
    assert "optim.lr=0.1" in said


@pytest.mark.parametrize(("metric", "best"), [("accuracy", 0.1), ("loss", 0.01)])
def test_if_every_seed_has_several_rates_the_best_mean_stays(metric, best):
    rows = [("layer", seed, rate, rate + seed / 100) for seed in range(3) for rate in (0.01, 0.1)]
    frame = table(*rows).rename(columns={"validation/accuracy": f"validation/{metric}"})
    left, (said,) = at_chosen_rate(frame, LAYER, f"validation/{metric}")
    assert set(left["optim.lr"]) == {best}
    assert len(left) == 3
    assert f"left out: 3 runs of {LAYER}: optim.lr={best:g} has the best mean validation/{metric} of 2 points" in said
    assert "on these very seeds" in said


def test_a_rate_at_which_a_run_diverged_is_not_chosen():
    rows = [("layer", seed, rate, rate + seed / 100) for seed in range(3) for rate in (0.01, 0.1)]
    frame = table(*rows)
    frame["diverged"] = frame["optim.lr"] == 0.1
    left, _ = at_chosen_rate(frame, LAYER, "validation/accuracy")
    assert set(left["optim.lr"]) == {0.01}


def test_other_arms_and_runs_that_were_not_tuned_stay():
    rows = [("layer", seed, 0.01, 0.5) for seed in range(3)] + [("batch", 0, rate, 0.5) for rate in (0.1, 1.0)]
    left, said = at_chosen_rate(table(*rows), LAYER, "validation/accuracy")
    assert len(left) == 5
    assert said == []


def test_runs_that_differ_in_the_model_are_no_tuning():
    frame = table(*[("layer", 0, 0.01, 0.5), ("layer", 0, 0.1, 0.5)])
    frame["model"] = ["cnn", "mlp"]
    left, said = at_chosen_rate(frame, LAYER, "validation/accuracy")
    assert len(left) == 2
    assert said == []
