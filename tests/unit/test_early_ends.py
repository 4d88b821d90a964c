"""Tuning runs that pause at a share of their steps, of which only the best of an arm go on."""

import json
import math
import shutil

import pytest
import test_study
from hypothesis import given
from hypothesis import strategies as st

from finding_files import finding, write
from normlab.config.measures.training import least_steps, pause_step, places
from normlab.config.schema import InputError
from normlab.findings.tuning import going_on
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.run_folder import RunFolder
from normlab.folder.study_folder import StudyFolder
from normlab.moving.packing import pack_studies
from normlab.moving.unpacking import unpack
from normlab.runs.validated import result_of, validations_until
from normlab.session.validation_curve import ValidationCurve
from normlab.study import engine
from normlab.study.planned import Stage, read_progress

world = test_study.world  # the fixture
POINTS = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]
AT_A_QUARTER = "scale.early_ends=[{at: 0.25, keep: 0.4}]"
TWICE = "scale.early_ends=[{at: 0.25, keep: 0.6}, {at: 0.5, keep: 0.4}]"


def learning(config, effect):
    """Best at 0.01, from the first validation on; eight steps, a validation after each second."""
    made = test_study.accuracy(config, effect)
    end = made["validation/accuracy"]
    curve = {step: end - 0.01 * (8 - step) for step in (2, 4, 6, 8)}
    return {**made, "steps": 8, "curve": curve}


@pytest.fixture
def early(world):
    world.behaviour = learning
    return world


def tuned(world, name="planted"):
    """arm, point → (outcome, steps) of each of its tuning runs."""
    found = {}
    for row in StudyFolder.at(world.output, f"{name}-quick").read_runs():
        if row["stage"] == "tune":
            found.setdefault((row["arm"], row["point"]), []).append((row["outcome"], row["steps"]))
    return found


def test_only_the_best_points_of_an_arm_go_on(early, capsys):
    (verdict,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    assert verdict.state == "supported"
    assert [arm.point for arm in verdict.arms] == [0.01, 0.01]
    kept, ended = [("finished", 8)] * 3, [("paused", 2)]
    for arm in ("layer", "batch"):
        assert [tuned(early)[arm, point] for point in POINTS] == [ended, ended, kept, kept, ended]
    out = " ".join(capsys.readouterr().out.split())
    assert "planted · tune: 10 runs, 10 of them to 25 % of their steps, 0 done before" in out
    assert "planted · tune: 10 runs, 6 of them to 25 % of their steps, 6 done before" in out
    assert "planted · tuned: layer: 9 runs, 54 steps" in out  # three at 2 steps, six at 8
    assert len(early.done) == 2 * (5 + 2 + 2 * 2) + 2 * 8


@pytest.mark.slow
def test_there_may_be_several_pauses(early):
    early(TWICE, "scale.tuning_seeds=[1]")
    steps = {point: tuned(early)["layer", point] for point in POINTS}
    end = [("finished", 8)]
    assert steps == {1e-3: [("paused", 2)], 3e-3: [("paused", 4)], 1e-2: end, 3e-2: end, 1e-1: [("paused", 2)]}


@pytest.mark.slow
def test_a_paused_run_is_neither_failed_nor_finished_and_can_be_resumed(early):
    early(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    ended = [r for r in StudyFolder.at(early.output, "planted-quick").read_runs() if r["outcome"] == "paused"]
    for row in ended:
        status = RunFolder.at(early.output, row["id"]).read_status()
        assert (status["state"], status["step"], status["steps"]) == ("paused", 2, 8)
        assert RunFolder.at(early.output, row["id"]).read_summary() == {}
    assert read_progress(early.output / "studies" / "planted-quick")["planted"][0] == Stage(
        "tune", 10, done=4, paused=6
    )


@pytest.mark.slow
def test_again_nothing_is_run_and_the_same_is_said(early):
    (first,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    before = tuned(early)
    (second,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    assert early.done == []
    assert first == second
    assert tuned(early) == before


def test_what_other_code_has_paused_is_accepted_like_its_results(early):
    (first,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    before = tuned(early)
    for status in early.output.glob("runs/*/status.json"):
        write_json(status, {**read_json(status), "code": "older"})
    (second,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1]", "accept_code=true")
    assert early.done == []
    assert (first, before) == (second, tuned(early))


@pytest.mark.parametrize("stopped_at", [11, *(pytest.param(at, marks=pytest.mark.slow) for at in (3, 13))])
def test_a_study_stopped_before_or_between_the_stages_resumes_with_the_same_choice(early, stopped_at):
    """While runs go to the pause (3), as those that are kept go on (11), and in the second round (13)."""
    (whole,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    runs = tuned(early)
    shutil.rmtree(early.output)

    def stopped(config, effect):
        if len(early.done) == stopped_at:
            raise KeyboardInterrupt
        return learning(config, effect)

    early.behaviour = stopped
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    early.behaviour = learning
    (resumed,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    assert resumed == whole
    assert tuned(early) == runs


@pytest.mark.slow
def test_runs_that_had_finished_before_are_judged_by_the_same_validations_and_never_repeated(early):
    """A stored run that ends best, but is among the worst at the pause, is ended like the others."""

    def late(config, effect):
        made = learning(config, effect)
        if config.optim.lr == 0.1:
            made |= {"validation/accuracy": 0.99, "curve": {2: 0.1, 4: 0.1, 6: 0.5, 8: 0.99}}
        return made

    early.behaviour = late
    (fresh,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    ends = tuned(early)
    shutil.rmtree(early.output)
    write(early.conf, finding(name="other", primary=False), "other")
    base = ("scale.tuning_seeds=[1]", "scale.findings=all")
    early.behaviour = late
    _study(early, ["other"])
    early(*base, study="s")  # tuned in full
    stored = {path.parent.name: path.stat().st_mtime_ns for path in early.output.glob("runs/*/summary.json")}
    (again,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    assert tuned(early) == ends
    assert [arm.point for arm in again.arms] == [arm.point for arm in fresh.arms] == [0.01, 0.01]
    for run, time in stored.items():
        assert (early.output / "runs" / run / "summary.json").stat().st_mtime_ns == time


@pytest.mark.slow
@pytest.mark.parametrize("stopped_at", [99, 11])
def test_a_study_moved_after_its_tuning_or_between_its_stages_goes_on_as_if_it_had_not(
    early, cache, tmp_path, stopped_at
):
    (whole,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    runs, rows = tuned(early), StudyFolder.at(early.output, "planted-quick").read_runs()
    if stopped_at < 99:
        shutil.rmtree(early.output)

        def stopped(config, effect):
            if len(early.done) == stopped_at:
                raise KeyboardInterrupt
            return learning(config, effect)

        early.behaviour = stopped
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
        early.behaviour = learning
    pack = tmp_path / "moved.zip"
    packed = pack_studies([early.output / "studies" / "planted-quick"], pack)
    early.output.rename(tmp_path / "old")
    done = unpack(pack, early.output, cache, frozenset(), early.conf)
    assert packed.paused >= 6
    assert len(done.new) == packed.runs + packed.paused
    assert unpack(pack, early.output, cache, frozenset(), early.conf).known == packed.runs + packed.paused
    assert not list(early.output.rglob("*.ckpt"))
    (moved,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    assert moved == whole
    assert tuned(early) == runs
    assert StudyFolder.at(early.output, "planted-quick").read_runs() == rows
    if stopped_at == 99:
        assert early.done == []


@pytest.mark.slow
def test_a_pack_with_an_altered_row_of_a_run_that_was_ended_is_refused(early, tmp_path):
    early(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    study = StudyFolder.at(early.output, "planted-quick")
    rows = study.read_runs()
    ended = next(row for row in rows if row["outcome"] == "paused")
    study.write_runs([row | {"validation/accuracy": 0.99} if row is ended else row for row in rows])
    with pytest.raises(InputError, match="has been altered: validation/accuracy of planted, arm layer, tune at"):
        pack_studies([study.folder], tmp_path / "moved.zip")


@pytest.mark.slow
def test_an_end_of_the_grid_is_seen_although_its_neighbours_were_ended(early):
    def rising(config, effect):
        made = learning(config, effect)
        best = 0.3 if config.norm_name == "layer" else 0.01
        value = 0.8 - 0.05 * abs(math.log10(config.optim.lr / best)) + 1e-4 * (config.seed % 3)
        curve = {step: value - 0.01 * (8 - step) for step in (2, 4, 6, 8)}
        return made | {"validation/accuracy": value, "test/accuracy": value, "curve": curve}

    early.behaviour = rising
    (verdict,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]")
    assert [arm.point for arm in verdict.arms] == [0.3, 0.01]
    assert not any(arm.edge for arm in verdict.arms)
    seen = tuned(early)
    assert {point for arm, point in seen if arm == "batch"} == {*POINTS, 0.3, 1.0}
    assert seen["batch", 0.3] == seen["batch", 1.0] == [("paused", 2)]


@pytest.mark.slow
def test_an_end_that_stays_the_best_decides_nothing(early):
    def rising(config, effect):
        value = 0.3 + 0.1 * math.log10(config.optim.lr)
        return {"validation/accuracy": value, "test/accuracy": 0.8 + 1e-3 * config.seed, "steps": 8,
                "curve": {2: value - 0.1, 8: value}}  # fmt: skip

    early.behaviour = rising
    (verdict,) = early(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    assert (verdict.state, verdict.reason.value) == ("undecided", "edge")


@pytest.mark.slow
def test_runs_that_diverge_before_the_pause_are_the_worst(early):
    def behaviour(config, effect):
        if config.optim.lr in (1e-2, 3e-3):
            return {"diverged": True, "steps": 1, "validation/accuracy": None, "test/accuracy": None}
        return learning(config, effect)

    early.behaviour = behaviour
    (verdict,) = early("scale.early_ends=[{at: 0.25, keep: 0.2}]", "scale.tuning_seeds=[1]", "scale.widen=false")
    assert [arm.point for arm in verdict.arms] == [0.03, 0.03]
    assert tuned(early)["layer", 1e-2] == [("diverged", 1)]


@pytest.mark.slow
def test_runs_whose_validations_say_nothing_all_go_to_their_end(world):
    """As those of a measure that doesn't train: no point is ended by guessing."""
    world(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    assert {outcome for runs in _outcomes(world).values() for outcome in runs} == {"finished"}


def test_a_dry_run_counts_the_steps_up_to_the_pauses(early, capsys, monkeypatch):
    given = []
    monkeypatch.setattr(engine, "estimate", lambda *arguments: given.append(arguments))
    write(early.conf, finding(scales={"quick": ["trainer.steps=8", "trainer.epochs=9", "trainer.validations=4"]}))
    early(AT_A_QUARTER, "scale.tuning_seeds=[1,3]", "dry=true")
    out = " ".join(capsys.readouterr().out.split())
    assert f"planted: tuning 9 runs and {3 * 2 + 6 * 8} steps per arm" in out
    assert sorted(job.pause or 1.0 for job in given[0][1]) == [0.25] * 6 + [1.0] * (12 + 16)


@pytest.mark.slow
def test_the_rule_is_in_the_plan_and_can_not_change_once_tuning_has_begun(early):
    early(AT_A_QUARTER, "scale.tuning_seeds=[1]")
    plan = read_json(StudyFolder.at(early.output, "planted-quick").plan_file)
    assert plan["early_ends"] == {"planted": [{"at": 0.25, "keep": 0.4}]}
    early.done.clear()
    with pytest.raises(InputError, match=r"tuning of planted began with scale.early_ends=\[{at: 0.25, keep: 0.4}\]"):
        early(TWICE, "scale.tuning_seeds=[1]")
    assert early.done == []


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("[{at: 0.5, keep: 0.6}, {at: 0.25, keep: 0.4}]", "each pause comes later and keeps fewer points"),
        ("[{at: 0.25, keep: 0.4}, {at: 0.5, keep: 0.4}]", "each pause comes later and keeps fewer points"),
        ("[{at: 1, keep: 0.4}]", "scale.early_ends.0.at=1"),
        ("[{at: 0.25, keep: 0}]", "scale.early_ends.0.keep=0"),
        ("[{at: 0.25}]", "scale.early_ends.0.keep has no value"),
        ("quarter", "scale.early_ends='quarter'"),
    ],
)
def test_pauses_that_can_not_be_are_refused_in_one_line(early, option, words):
    with pytest.raises(InputError, match=words) as error:
        early(f"scale.early_ends={option}")
    assert "\n" not in str(error.value)
    assert early.done == []


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=9), st.sampled_from(["max", "min"]), st.floats(0.05, 0.95))
def test_the_best_go_on_whatever_their_order(values, best, keep):
    points = dict(zip([10.0**i for i in range(len(values))], values, strict=True))
    kept = going_on(points, best, keep)
    assert 1 <= len(kept) == math.ceil(round(keep * len(values), 6))
    assert going_on(dict(reversed(points.items())), best, keep) == kept
    worst = (min if best == "max" else max)(points[point] for point in kept)
    assert all((value <= worst) if best == "max" else (value >= worst) for p, value in points.items() if p not in kept)
    assert going_on({**points, 1e99: None}, best, keep) == sorted([*points, 1e99])


@given(st.data())
def test_the_pause_is_the_first_validation_of_a_run_with_that_share_done(data):
    epoch = data.draw(st.integers(1, 40))
    count, steps = data.draw(st.integers(1, epoch)), data.draw(st.integers(1, 4)) * epoch
    share = data.draw(st.floats(0.01, 0.99))
    every = [before + place for before in range(0, steps, epoch) for place in sorted(places(count, epoch))]
    expected = next(step for step in every if step >= least_steps(share, steps))
    assert pause_step(share, steps=steps, epoch=epoch, count=count) == expected


ROWS = [
    {"step": 2, "train/loss": 3.0},
    {"step": 2, "validation/accuracy": 0.5, "validation/loss": 2.0},
    {"step": 4, "validation/accuracy": 0.7, "validation/loss": 1.0},
    {"step": 8, "validation/accuracy": 0.6, "validation/loss": 0.5},
]


def test_validations_say_what_the_summary_would_have_been():
    assert validations_until(ROWS, 3) == ROWS[1:3]
    assert validations_until(ROWS, 9) == []
    upto = validations_until(ROWS, 8)
    assert result_of(upto, "validation/accuracy") == 0.7
    assert result_of(upto, "validation/loss") == 1.0  # of the most accurate
    assert result_of(upto, "last/accuracy") == 0.6
    curve = ValidationCurve("accuracy", "max")
    curve.rows = upto
    assert result_of(upto, "area/loss") == pytest.approx(curve.area("validation/loss"), rel=1e-12)
    assert result_of(upto[:1], "area/loss") == 2.0
    assert result_of([{"step": 2, "validation/accuracy": None}], "validation/accuracy") is None
    assert result_of(upto, "gap/accuracy") is None


def _outcomes(world):
    rows = [row for row in StudyFolder.at(world.output, "planted-quick").read_runs() if row["stage"] == "tune"]
    return {(row["arm"], row["point"]): [row["outcome"]] for row in rows}


def _study(world, names):
    path = world.conf / "study" / "s.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"study": {"name": "s", "title": "One", "findings": names}}))
