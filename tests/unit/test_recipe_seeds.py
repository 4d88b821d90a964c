"""What each seed was used for: seeds on which a recipe was chosen, or that tuned it, are never reported on."""

import pytest
import test_study
from hypothesis import given
from hypothesis import strategies as st

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.finding import Finding
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.findings.verdict import Reason
from normlab.findings.wording import numbers_of, reason_words
from normlab.folder.study_folder import StudyFolder
from normlab.folder.study_table import read_rows
from normlab.study.scale import Scale

world = test_study.world  # the fixture
SCALE = Scale.model_validate(
    {
        **{
            "name": "s",
            "findings": "all",
            "tuning": "own",
            "tuning_seeds": [1, 3],
            "drop_failed": True,
            "points": None,
        },
        **{"widen": True, "seeds": {"training": 24}, "looks": {"training": [8, 12]}, "alone": True, "overrides": []},
    }
)


@pytest.mark.slow
def test_a_study_reports_on_other_seeds_and_records_what_each_was_used_for(world):
    write(world.conf, finding(recipe_seeds=[0, 1, 5]))
    world("scale.tuning_seeds=[1,3]")
    folder = StudyFolder.at(world.output, "planted-quick")
    reported = {row["seed"] for row in read_rows(folder.runs_file) if row["stage"] == "report"}
    assert reported == {2, 3, 4, 6, 7, 8, 9, 10}
    assert folder.read_plan()["seeds"] == {
        "planted": {"recipe": [0, 1, 5], "tuning": [1000, 1001, 1002], "reporting": sorted(reported)}
    }


def test_seeds_that_an_earlier_plan_knows_for_the_recipe_stay_so(world):
    """Of an exploratory finding, whose rule may change."""
    write(world.conf, finding(primary=False, tune=None, recipe_seeds=[0, 1]))
    world()
    world.done.clear()
    write(world.conf, finding(primary=False, tune=None))
    with pytest.raises(InputError, match=r"planted.yaml: seed 0 was used to choose the recipe") as error:
        world()
    assert "\n" not in str(error.value)
    assert world.done == []


def test_a_recipe_that_is_declared_after_a_look_is_another_rule(world):
    world()
    write(world.conf, finding(recipe_seeds=[0]))
    with pytest.raises(InputError, match="has changed since its first verdict"):
        world()


def test_more_reporting_seeds_than_lie_below_the_tuning_seeds_are_refused(world):
    write(world.conf, finding(recipe_seeds=[0, 1]))
    with pytest.raises(InputError, match=r"scale.seeds.training=999: planted has 998 reporting seeds below 1000"):
        world("scale.seeds.training=999")


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([1, 0], "ascending order"),
        ([0, 0], "ascending order"),
        ([-1], "recipe_seeds.0=-1"),
        ([0.5], "recipe_seeds.0=0.5"),
    ],
)
def test_recipe_seeds_that_can_not_be_are_refused(tmp_path, seeds, words):
    with pytest.raises(InputError, match=words):
        read_finding(write(tmp_path, finding(recipe_seeds=seeds)))


@given(st.sets(st.integers(0, 60), max_size=40))
def test_reporting_seeds_are_the_first_that_the_recipe_has_not_seen(recipe):
    found = SCALE.reporting(Finding.model_validate(finding(recipe_seeds=sorted(recipe))))
    assert len(found) == 24
    assert not recipe & set(found)
    assert set(range(found[-1])) <= recipe | set(found)


def rows(seeds):
    return [
        {
            "arm": arm,
            "condition": "",
            "seed": seed,
            "id": f"{arm}-{seed}",
            "point": 0.01,
            "test/accuracy": value + seed / 1e3,
        }
        for arm, value in (("layer", 0.9), ("batch", 0.8))
        for seed in seeds
    ]


def test_a_table_with_recipe_seeds_decides_nothing(tmp_path):
    primary = read_finding(write(tmp_path, finding(tune=None, recipe_seeds=[0, 1])))
    verdict = judge(primary, rows(range(8)), 8, "quick", {})
    assert (verdict.state, verdict.reason) == ("undecided", Reason.RECIPE)
    assert "the recipe was chosen on seeds 0, 1, which the runs include" in reason_words(verdict)
    assert judge(primary, rows(range(2, 10)), 8, "quick", {}).reason is not Reason.RECIPE


def test_an_estimate_says_that_it_includes_recipe_seeds(tmp_path):
    exploratory = read_finding(write(tmp_path, finding(tune=None, primary=False, recipe_seeds=[0, 1])))
    verdict = judge(exploratory, rows(range(8)), 8, "quick", {})
    assert verdict.state == "estimate"
    assert numbers_of(verdict, exploratory)[0] == "the recipe was chosen on seeds 0, 1, which these numbers include"


def test_no_committed_primary_was_reported_on_the_seeds_of_its_recipe():
    for row in StudyFolder(REFERENCE / "quick").read_runs():
        found = read_finding(CONF / "finding" / f"{row['finding']}.yaml")
        assert row["seed"] not in found.recipe_seeds, found.name
    assert read_finding(CONF / "finding" / "sorted_batches.yaml").recipe_seeds == [0, 1]
