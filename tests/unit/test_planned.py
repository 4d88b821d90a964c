"""What a study takes down before its first run: the findings, also the user's own, and how many runs are done."""

import shutil

import pytest
import test_study
from omegaconf import OmegaConf
from rejudged_studies import differences, rejudge

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.config.shipped import CONF
from normlab.findings.finding import Finding
from normlab.findings.read import read_finding
from normlab.folder.jsonfile import read_json, write_json
from normlab.report.build import build, gather
from normlab.study import choices
from normlab.study.planned import PlanRecord, Stage, planned_findings, read_progress
from normlab.study.serving import read_serving

world = test_study.world  # the fixture
NONE = "there is no such folder"


@pytest.fixture
def mine(world, tmp_path, monkeypatch):
    """A folder of the user's, with a study of our finding and one that only it has."""
    mine = tmp_path / "mine"
    monkeypatch.setattr(choices, "own_folders", lambda cfg: [mine])
    write(mine, finding(name="hunch", primary=False, claim=None, title="A hunch of mine"), "hunch")
    write(world.conf, finding(name="known", primary=False, claim=None), "known")
    (mine / "study").mkdir()
    OmegaConf.save(
        {"study": {"name": "both", "title": "Both", "findings": ["known", "hunch"]}}, mine / "study/both.yaml"
    )
    return mine


@pytest.mark.slow
def test_runs_are_counted_as_they_end(world):
    world()
    folder = world.output / "studies" / "planted-quick"
    assert read_progress(folder) == {"planted": [Stage("tune", 20, done=20), Stage("report", 16, done=16)]}
    some = sorted(run for run in read_json(folder / "plan.json")["runs"]["planted"]["report"]["ids"])
    shutil.rmtree(world.output / "runs" / some[0])
    status = world.output / "runs" / some[1] / "status.json"
    write_json(status, {**read_json(status), "state": "failed"})
    assert read_progress(folder)["planted"][1] == Stage("report", 16, done=14, failed=1)


@pytest.mark.slow
def test_a_moved_study_is_where_it_was(world, tmp_path):
    """Its progress and the findings that its runs serve hang on no path."""
    world()
    before = read_serving(world.output)
    moved = world.output.rename(tmp_path / "moved")
    stages = [Stage("tune", 20, done=20), Stage("report", 16, done=16)]
    assert read_progress(moved / "studies" / "planted-quick") == {"planted": stages}
    assert read_serving(moved) == before != {}


@pytest.mark.slow
def test_runs_of_other_code_are_not_done(world):
    world()
    folder = world.output / "studies" / "planted-quick"
    plan = read_json(folder / "plan.json")
    stage = plan["runs"]["planted"]["report"]
    stage["ids"] = dict.fromkeys(stage["ids"], "another code")
    write_json(folder / "plan.json", plan)
    assert read_progress(folder)["planted"][1] == Stage("report", 16)


@pytest.mark.slow
def test_a_finding_that_has_not_begun_has_its_number_of_runs(world, mine):
    seen = {}

    def behaviour(config, effect):
        seen.setdefault("first", read_progress(world.output / "studies" / "both-quick"))
        return test_study.accuracy(config, effect)

    world.behaviour = behaviour
    world("scale.findings=all", study="both")
    assert seen["first"]["known"] == [Stage("tune", 20), Stage("report", 16)]
    assert seen["first"]["hunch"] == [Stage("tune", 20), Stage("report", 16)]


@pytest.mark.slow
def test_a_dry_study_takes_nothing_down(world):
    world("dry=true")
    assert not (world.output / "studies").exists()


@pytest.mark.slow
def test_a_users_study_and_finding_are_found_judged_again_and_reported(world, mine, tmp_path):
    verdicts = world("scale.findings=all", study="both")
    assert [v.finding for v in verdicts] == ["known", "hunch"]
    folder = world.output / "studies" / "both-quick"
    shutil.rmtree(mine)  # the study's folder is enough
    assert differences(folder, rejudge(folder, world.conf)) == []
    report = gather([folder], world.conf, tmp_path / NONE)
    assert report.problems == []
    assert [(s.finding.name, s.ours) for s in report.sections if s.results] == [("hunch", False), ("known", True)]
    page, _ = build(tmp_path / "report", [folder], world.conf, tmp_path / NONE, papers=False)
    assert "A hunch of mine" in page.read_text(encoding="utf-8")


def test_a_scale_that_leaves_all_of_a_study_out_says_what_runs_it(world, mine):
    with pytest.raises(InputError, match=r"no finding of both runs at scale=quick; use scale\.findings=all"):
        world(study="both")


def test_a_finding_of_ours_and_the_users_of_one_name_are_not_mixed_up(world, mine):
    write(mine, finding(name="known", margin=0.5), "known")
    with pytest.raises(InputError, match=r"mine/finding/known.yaml have the same name: rename your own finding"):
        world("scale.findings=all", study="both")


@pytest.mark.parametrize("path", sorted((CONF / "finding").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_finding_comes_back_as_it_was(path, tmp_path):
    fixed = read_finding(path)
    PlanRecord(tmp_path).plan([fixed], {path.stem: {"report": 1}})
    (again,) = planned_findings(tmp_path).values()
    assert isinstance(again, Finding)
    assert (again, again.rule_hash) == (fixed, fixed.rule_hash)


@pytest.mark.parametrize("damage", ["{", "[]", '{"runs": 3, "findings": {"x": {}}}', '{"runs": {"x": {"tune": 1}}}'])
def test_a_damaged_plan_is_as_good_as_none(tmp_path, damage):
    (tmp_path / "plan.json").write_text(damage)
    assert planned_findings(tmp_path) == {}
    assert all(stages in ([], [Stage("tune", 0)]) for stages in read_progress(tmp_path).values())
