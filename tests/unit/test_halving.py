"""Successive halving of the tuning grid: which points get more seeds, and what it costs."""

import math

import pytest
import test_study
from hypothesis import given
from hypothesis import strategies as st

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.findings.tuning import TuningScores, rounds
from normlab.folder.jsonfile import read_json
from normlab.folder.study_table import read_rows
from normlab.study import engine

world = test_study.world  # the fixture
POINTS = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]


def tuned(world):
    """Point → its tuning seeds, of each arm."""
    rows = [row for row in read_rows(world.output / "studies" / "planted-quick" / "runs.csv") if row["stage"] == "tune"]
    arms = {row["arm"] for row in rows}
    return {arm: {p: {r["seed"] for r in rows if (r["arm"], r["point"]) == (arm, p)} for p in POINTS} for arm in arms}


def test_the_better_half_of_each_arms_points_gets_more_seeds(world):
    def behaviour(config, effect):
        best = 0.03 if config.norm_name == "layer" else 0.01
        value = 0.8 - 0.05 * abs(math.log10(config.optim.lr / best)) + 1e-3 * (config.seed % 5)
        return {"diverged": False, "validation/accuracy": value, "test/accuracy": value, "steps": 10, "seconds": 1.0}

    world.behaviour = behaviour
    (verdict,) = world("scale.tuning_seeds=[1,3]")
    assert [arm.point for arm in verdict.arms] == [0.03, 0.01]
    once, thrice = {1000}, {1000, 1001, 1002}
    assert tuned(world) == {
        "layer": {1e-3: once, 3e-3: once, 1e-2: thrice, 3e-2: thrice, 1e-1: once},
        "batch": {1e-3: once, 3e-3: once, 1e-2: thrice, 3e-2: thrice, 1e-1: once},
    }
    assert len(world.done) == 2 * (5 + 2 * 2) + 2 * 8


@pytest.mark.slow
def test_the_steps_of_each_arms_tuning_are_printed_and_recorded(world, capsys):
    world.behaviour = lambda c, e: test_study.accuracy(c, e) | {"steps": 1250}
    world("scale.tuning_seeds=[1,3]")
    out = capsys.readouterr().out
    assert "planted · tuned: layer: 9 runs, 11,250 steps" in out
    assert "planted · tuned: batch: 9 runs, 11,250 steps" in out
    rows = read_rows(world.output / "studies" / "planted-quick" / "runs.csv")
    assert {row["steps"] for row in rows if row["stage"] == "tune"} == {1250}


@pytest.mark.parametrize("drop", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("how", ["diverged", "chance"])
def test_a_point_that_is_lost_gets_no_more_seeds(world, how, drop):
    """Only the rate of 0.01 trains, so that the better half of five holds one that doesn't."""

    def behaviour(config, effect):
        if config.optim.lr == 0.01:
            return {"validation/accuracy": 0.8, "test/accuracy": 0.8 + 1e-3 * config.seed}
        if how == "diverged":
            return {"diverged": True, "validation/accuracy": None, "test/accuracy": None}
        return {"validation/accuracy": 0.105, "test/accuracy": 0.105}  # chance is 0.1, the margin 0.01

    world.behaviour = behaviour
    (verdict,) = world("scale.tuning_seeds=[1,3]", f"scale.drop_failed={str(drop).lower()}")
    assert [arm.point for arm in verdict.arms] == [0.01, 0.01]
    again = {1000, 1001, 1002}
    expected = {p: {1000} for p in POINTS} | ({} if drop else {0.01: again, 0.001: again})
    assert tuned(world) == {"layer": expected, "batch": expected}


@pytest.mark.slow
def test_a_study_stopped_while_it_tunes_resumes_with_the_same_choice(world):
    (whole,) = world("scale.tuning_seeds=[1,3]")
    runs = tuned(world)
    (world.output).rename(world.output.with_name("whole"))
    ended = []

    def stopped(config, effect):
        ended.append(config)
        if len(ended) == 14:  # in the second round
            raise KeyboardInterrupt
        return test_study.accuracy(config, effect)

    world.behaviour = stopped
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        world("scale.tuning_seeds=[1,3]")
    world.behaviour = test_study.accuracy
    (resumed,) = world("scale.tuning_seeds=[1,3]")
    assert resumed == whole
    assert tuned(world) == runs
    assert len(world.done) == 2 * 9 + 2 * 8 - 13


@pytest.mark.slow
def test_a_widened_grid_is_halved_anew_and_repeats_no_run(world):
    def rising(config, effect):
        best = 0.3 if config.norm_name == "layer" else 0.01
        value = 0.8 - 0.05 * abs(math.log10(config.optim.lr / best))
        return {"diverged": False, "validation/accuracy": value, "test/accuracy": value + 1e-4 * (config.seed % 3)}

    world.behaviour = rising
    (verdict,) = world("scale.tuning_seeds=[1,3]")
    assert [arm.point for arm in verdict.arms] == [0.3, 0.01]
    assert not any(arm.edge for arm in verdict.arms)
    rows = read_rows(world.output / "studies" / "planted-quick" / "runs.csv")
    tune = [(row["arm"], row["point"], row["seed"]) for row in rows if row["stage"] == "tune"]
    assert len(set(tune)) == len(tune)
    assert len(world.done) == len(tune) + 2 * 8


@pytest.mark.slow
def test_a_finding_that_decides_nothing_has_the_first_round(world):
    write(world.conf, finding(primary=False))
    (verdict,) = world("scale.tuning_seeds=[1,3]")
    assert [arm.point for arm in verdict.arms] == [0.01, 0.01]
    assert len(world.done) == 2 * 5 + 2 * 8


def test_a_dry_run_says_what_every_arm_may_cost(world, capsys, monkeypatch):
    given = []
    monkeypatch.setattr(engine, "estimate", lambda *arguments: given.append(arguments))
    world("scale.tuning_seeds=[1,3]", "scale.seeds.training=12", "scale.looks.training=[8,12]", "dry=true")
    out = " ".join(capsys.readouterr().out.split())
    assert "planted: tuning 9 runs and 90 steps per arm, reporting at most 120 steps" in out
    chances = sorted(given[0][-1].values())
    assert len(chances) == 2 * (9 + 12)
    assert chances[-34:] == [1.0] * 34
    assert all(0 < chance < 1 for chance in chances[:8])


@pytest.mark.slow
def test_a_tuning_run_without_a_result_leaves_the_finding_undecided_and_no_look_is_taken(world):
    def failing(config, effect):
        if config.seed == 1001:
            raise RuntimeError("the machine is on fire")
        return test_study.accuracy(config, effect)

    world.behaviour = failing
    with pytest.raises(SystemExit):
        world("scale.tuning_seeds=[1,3]")
    (verdict,) = read_json(world.output / "studies" / "planted-quick" / "verdicts.json")["verdicts"]
    assert verdict["facts"] == {"problem": "4 tuning runs have no result; the same command repeats them"}
    assert not (world.output / "looks").exists()
    world.behaviour = test_study.accuracy
    (verdict,) = world("scale.tuning_seeds=[1,3]")
    assert verdict.state == "supported"


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("scale.tuning_seeds=[3,1]", r"scale.tuning_seeds=\[3, 1\]: each round needs more seeds than the last"),
        ("scale.tuning_seeds=[2,2]", "each round needs more seeds than the last, such as"),
        ("scale.tuning_seeds=[]", "scale.tuning_seeds"),
        ("scale.tuning_seeds=[0,2]", r"scale.tuning_seeds.0=0"),
        ("scale.tuning_seeds=[1,2.5]", r"scale.tuning_seeds.1=2.5"),
        ("scale.tuning_seeds=3", r"scale.tuning_seeds=3"),
    ],
)
def test_rounds_that_can_not_be_are_refused_in_one_line(world, option, words):
    with pytest.raises(InputError, match=words) as error:
        world(option)
    assert "\n" not in str(error.value)
    assert world.done == []


def test_the_committed_scales_spend_the_same_on_every_arm():
    """Of five points two go on: nine runs of the full grid's fifteen."""
    assert rounds(5, [1, 3]) == [(5, range(1)), (2, range(1, 3))]
    assert rounds(7, [1, 2, 4]) == [(7, range(1)), (3, range(1, 2))]  # of three one is left, which needs no more
    assert rounds(2, [1, 3]) == [(2, range(1))]
    assert rounds(5, [3]) == [(5, range(3))]


finite = st.floats(-10, 10)


@given(st.lists(st.tuples(finite, finite, finite), min_size=5, max_size=7), st.sampled_from(["max", "min"]))
def test_halving_chooses_the_best_where_the_first_seed_is_right(rows, best):
    """Where all seeds say the same, halving loses nothing; the order in which points are listed never counts."""
    points = [10.0**i for i in range(len(rows))]
    same = {p: [row[0]] * 3 for p, row in zip(points, rows, strict=True)}
    full = TuningScores(same, best)
    half = full.better_half(points, 1)
    halved = TuningScores({p: same[p] if p in half else same[p][:1] for p in points}, best)
    assert halved.chosen == full.chosen
    assert full.better_half(points[::-1], 1) == half
    assert len(half) == len(points) // 2
    assert TuningScores({p: same[p] for p in points[::-1]}, best).chosen == full.chosen


def test_an_arm_is_not_chosen_on_fewer_seeds_than_another_point_has():
    """One lucky seed doesn't outdo three."""
    scores = {1e-3: [0.99], 1e-2: [0.8, 0.8, 0.8], 3e-2: [0.9, 0.7, 0.7]}
    assert TuningScores(scores, "max").chosen == 1e-2
