"""The cells at the end of a multirun: means, bests, and paired differences from the first arm."""

import csv
import io
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from normlab.folder.run_folder import RunFolder
from normlab.stats import guarded
from normlab.sweep.cells import cells_of, paired, print_cells, write_cells
from normlab.sweep.plan import Outcome


def job(number, folder, varied, seed, summary):
    measure = SimpleNamespace(name="training", main_value=lambda _: None)
    config = SimpleNamespace(seed=seed, measure=measure, model_name="mlp", task=SimpleNamespace(name="fashion"))
    folder.mkdir(parents=True)
    digest = RunFolder(folder).write_summary(summary)
    RunFolder(folder).write_status({"state": "finished", "summary": digest})
    cell = " ".join(option for option in varied if not option.startswith("seed="))
    return SimpleNamespace(number=number, folder=folder, varied=varied, cell=cell, config=config)


@pytest.fixture
def made(tmp_path):
    """Cells of runs that are given as options, seed and summary."""

    def cells(*runs):
        jobs = [
            job(n, tmp_path / f"{v}-{n}", [*v.split(), f"seed={s}"], s, summary)
            for n, (v, s, summary) in enumerate(runs)
        ]
        outcomes = {
            j.number: Outcome("diverged" if j and runs[j.number][2].get("diverged") else "finished") for j in jobs
        }
        return cells_of(jobs, outcomes)

    return cells


def scored(value, split="validation"):
    return {f"{split}/accuracy": value}


def printed(cells, width=80):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    print_cells(console, cells, paired(cells))
    return console.file.getvalue()


def test_a_cell_has_mean_sd_n_and_best(made):
    (cell,) = made(*[("norm=layer", seed, scored(v)) for seed, v in enumerate([0.5, 0.7, 0.6])])
    assert cell.mean == pytest.approx(0.6)
    assert cell.sd == pytest.approx(0.1)
    assert (cell.best, len(cell.values), cell.metric) == (0.7, 3, "validation accuracy")


def test_the_best_of_a_metric_that_is_an_error_is_the_lowest(made):
    (cell,) = made(
        ("x=1", 0, {"validation/bits_per_character": 2.0}), ("x=1", 1, {"validation/bits_per_character": 3.0})
    )
    assert cell.best == 2.0


def test_the_test_score_counts_if_every_run_has_one(made):
    both = {**scored(0.5), **scored(0.4, "test")}
    assert made(("x=1", 0, both), ("x=2", 0, both))[0].metric == "test accuracy"
    assert made(("x=3", 0, both), ("x=4", 0, scored(0.5)))[0].metric == "validation accuracy"


def test_arms_are_compared_with_the_first_norm_of_the_same_model(made):
    runs = [
        (f"norm={norm} model={model}", 0, scored(value))
        for norm, model, value in [("a", "cnn", 0.1), ("a", "mlp", 0.5), ("b", "cnn", 0.3), ("b", "mlp", 0.4)]
    ]
    cells = made(*runs)
    assert [cell.name.split()[1] for cell in cells] == ["model=cnn", "model=cnn", "model=mlp", "model=mlp"]
    means = [pair.mean if pair else None for pair in paired(cells)]
    assert means == [None, pytest.approx(0.2), None, pytest.approx(-0.1)]


def test_few_seeds_have_no_interval_and_say_so(made):
    cells = made(*[(f"norm={norm}", seed, scored(0.5 + seed / 10)) for norm in "ab" for seed in range(3)])
    assert "n=3: too few" in " ".join(printed(cells).split())


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2).map(lambda x: round(x, 4)), min_size=8, max_size=12, unique=True))
def test_the_interval_is_that_of_the_statistics_room(tmp_path_factory, shifts):
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        (name, s, 0.5 + shift * (name == "norm=b")) for name in ("norm=a", "norm=b") for s, shift in enumerate(shifts)
    ]
    jobs = [job(n, folder / str(n), [name, f"seed={s}"], s, scored(v)) for n, (name, s, v) in enumerate(runs)]
    pair = paired(cells_of(jobs, {j.number: Outcome("finished") for j in jobs}))[1]
    expected = guarded.interval(shifts, 0.05)
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert pair.mean == pytest.approx(np.mean(shifts), abs=1e-12)


def test_a_diverged_run_is_counted_and_forbids_a_difference(made):
    cells = made(
        *[("norm=a", seed, scored(0.5 + seed / 100)) for seed in range(9)],
        *[("norm=b", seed, {"diverged": True} if seed == 4 else scored(0.9)) for seed in range(9)],
    )
    assert cells[1].diverged == [4]
    assert (paired(cells)[1].mean, paired(cells)[1].why) == (None, "1 seed diverged")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_terminal(made, width):
    names = ["norm=batch norm.nbs=4 model=transformer", "norm=layer_channel model=transformer"]
    cells = made(*[(name, seed, scored(0.5 + seed / 97)) for name in names for seed in range(8)])
    assert max(map(len, printed(cells, width).splitlines())) <= width


def test_the_file_has_the_same_numbers(made, tmp_path):
    cells = made(
        *[(f"norm={norm}", seed, scored(0.5 + seed * (1 + (norm == "b")))) for norm in "ab" for seed in range(8)]
    )
    write_cells(tmp_path / "cells.csv", cells, paired(cells))
    rows = list(csv.DictReader((tmp_path / "cells.csv").open(encoding="utf-8")))
    assert [row["n"] for row in rows] == ["8", "8"]
    assert float(rows[1]["difference"]) == pytest.approx(3.5)
    assert rows[1]["first"] == "norm=a"
    assert float(rows[1]["low"]) < 3.5 < float(rows[1]["high"])
