"""A study through the whole engine, with a metric that is made up: what is planted is found, and nothing else."""

import contextlib
import functools
import hashlib
import math
import re
import sys
from copy import deepcopy
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_up_runs import Launcher, made_up
from omegaconf import OmegaConf

from finding_files import finding, write
from normlab.config.schema import InputError, RunConfig
from normlab.findings.verdict import Reason
from normlab.folder.jsonfile import read_json
from normlab.folder.pack import sign_folder
from normlab.folder.study_table import read_rows
from normlab.study import engine
from normlab.study.choices import users_choices
from normlab.study.engine import conduct
from normlab.study.planned import read_progress
from normlab.study.scale import read_study
from normlab.study.serving import read_serving
from normlab.sweep import job as jobs_module
from normlab.sweep.compose import Composer

CONF = Path(__file__).parents[2] / "conf"
NUMBER = re.compile(r"(seed|optim\.lr)=[-+.e\d]+")
TINY = ("scale.seeds.training=8", "scale.tuning_seeds=[2]")


def accuracy(config: RunConfig, effect: float) -> dict[str, object]:
    """Best at a rate of 0.01; seeds differ, and share most of what they differ by."""
    digest = hashlib.sha256(f"{config.norm_name} {config.seed}".encode()).digest()
    own = digest[0] / 255 * 0.004
    value = 0.8 + 0.05 * (config.seed % 3) - 0.05 * abs(math.log10(config.optim.lr / 0.01)) + own
    value += effect * (config.norm_name == "layer")
    return {"diverged": False, "validation/accuracy": value, "test/accuracy": value, "seconds": 1.0}


def composed(overrides):
    """What Hydra composes; numbers that vary from run to run are set afterwards, since it takes a tenth of a second."""
    numbers = [o for o in overrides if NUMBER.fullmatch(o)]
    cfg = deepcopy(_composed(tuple(o for o in overrides if o not in numbers)))
    for key, _, value in (o.partition("=") for o in numbers):
        OmegaConf.update(cfg, key, int(value) if value.isdigit() else float(value))
    return cfg


@functools.cache
def _composed(overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides), return_hydra_config=True)


@pytest.fixture
def world(tmp_path, cache, monkeypatch):
    """`world(*options)` conducts the study of `tmp_path/conf` and returns its verdicts."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setattr(engine, "REFERENCE", tmp_path / "reference")

    def load(overrides):
        plan = [o for o in overrides if o.startswith("plan=")]
        cfg = composed([o for o in overrides if o not in plan])
        cfg.output, cfg.cache = str(tmp_path / "out"), str(cache)
        cfg.plan = plan[0].removeprefix("plan=").strip("'") if plan else None
        cfg.hydra.sweep.dir = str(tmp_path / "invocation")
        return cfg

    class World:
        conf = tmp_path / "conf"
        output = tmp_path / "out"
        effect = 0.05
        behaviour = staticmethod(accuracy)

        def __init__(self):
            self.done = []
            self.launcher = Launcher(load)

        def __call__(self, *options, scale="quick", study=None):
            self.done.clear()
            base = load([f"scale={scale}", *(("scale.tuning=own",) if scale == "quick" else ()), *TINY, *options])
            OmegaConf.set_struct(base, False)
            base["study" if study else "finding"] = {"name": study or "planted"}
            return conduct(base, options, Composer(load, base), self.launcher, self.conf)

    world = World()
    write(world.conf, finding())
    monkeypatch.setattr(jobs_module, "do", made_up(lambda c: world.behaviour(c, world.effect), world.done))
    return world


@pytest.mark.parametrize(
    ("effect", "state"),
    [(0.05, "supported"), (0.0, "contradicted"), pytest.param(-0.05, "contradicted", marks=pytest.mark.slow)],
)
def test_what_is_planted_is_found(world, effect, state, capsys):
    world.effect = effect
    (verdict,) = world()
    assert verdict.state == state
    assert verdict.deciding.mean == pytest.approx(effect, abs=0.004)
    assert [arm.point for arm in verdict.arms] == [0.01, 0.01]
    mark = "✓" if effect > 0 else "✗"
    assert re.search(rf"^2 +{mark} {state} ", capsys.readouterr().out, re.MULTILINE)
    assert len(world.done) == 2 * 5 * 2 + 2 * 8
    rows = read_rows(world.output / "studies" / "planted-quick" / "runs.csv")
    assert {row["seed"] for row in rows if row["stage"] == "tune"} == {1000, 1001}
    assert {row["seed"] for row in rows if row["stage"] == "report"} == set(range(8))


def test_again_costs_nothing_and_says_the_same(world):
    (first,) = world()
    (second,) = world()
    assert world.done == []
    assert first == second


@pytest.mark.slow
def test_an_edge_widens_the_grid_of_every_arm(world):
    def rising(config, effect):
        best = 0.3 if config.norm_name == "layer" else 0.01
        value = 0.8 - 0.05 * abs(math.log10(config.optim.lr / best))
        return {"diverged": False, "validation/accuracy": value, "test/accuracy": value + 1e-4 * (config.seed % 3)}

    world.behaviour = rising
    (verdict,) = world()
    assert [arm.point for arm in verdict.arms] == [0.3, 0.01]
    assert not any(arm.edge for arm in verdict.arms)
    rows = read_rows(world.output / "studies" / "planted-quick" / "runs.csv")
    tried = {arm: {r["point"] for r in rows if r["stage"] == "tune" and r["arm"] == arm} for arm in ("layer", "batch")}
    assert tried["layer"] == tried["batch"] == {1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 0.3, 1.0}


@pytest.mark.slow
def test_an_edge_that_stays_decides_nothing(world):
    world.behaviour = lambda c, e: {"validation/accuracy": c.optim.lr, "test/accuracy": 0.8 + c.seed * 1e-3}
    (verdict,) = world()
    assert (verdict.state, verdict.reason) == ("undecided", Reason.EDGE)


@pytest.mark.slow
def test_rates_come_from_the_committed_table(world, tmp_path):
    with pytest.raises(InputError, match="no rates for layer of planted at scale=quick"):
        world("scale.tuning=reference")
    world()
    (tmp_path / "reference").mkdir()
    rows = (world.output / "studies" / "planted-quick" / "runs.csv").read_text().splitlines()
    (tmp_path / "reference" / "tuning.csv").write_text("\n".join([rows[0], *(r for r in rows if ",tune," in r)]))
    sign_folder(tmp_path / "reference")
    (verdict,) = world("scale.tuning=reference", "rerun=true")
    assert [arm.point for arm in verdict.arms] == [0.01, 0.01]
    assert len(world.done) == 16


@pytest.mark.slow
def test_a_failed_run_leaves_its_finding_undecided_and_the_others_go_on(world, capsys):
    write(world.conf, finding(name="other", primary=False), "other")
    OmegaConf.save({"study": {"name": "s", "title": "Two", "findings": ["planted2", "other"]}}, _study(world, "s"))
    write(world.conf, finding(name="planted2", primary=False, arms={"layer": ["norm=layer"], "rms": ["norm=rms"]},
          contrasts={"a": "layer - rms"}), "planted2")  # fmt: skip

    def failing(config, effect):
        if config.norm_name == "rms" and config.seed == 3:
            raise RuntimeError("the machine is on fire")
        return accuracy(config, effect)

    world.behaviour = failing
    with pytest.raises(SystemExit):
        world("scale.findings=all", study="s")
    out = capsys.readouterr().out
    assert "undecided (incomplete: rms has 7 of 8 seeds)" in out
    verdicts = read_json(world.output / "studies" / "s-quick" / "verdicts.json")["verdicts"]
    assert [v["state"] for v in verdicts] == ["undecided", "estimate"]


@pytest.mark.slow
def test_a_run_without_the_metric_leaves_its_finding_undecided(world):
    world.behaviour = lambda c, e: {
        "validation/accuracy": 1 - abs(math.log10(c.optim.lr / 0.01)),
        "test/accuracy": None,
    }
    (verdict,) = world()
    assert verdict.state == "undecided"
    assert "has no test/accuracy" in verdict.facts["problem"]


@pytest.mark.slow
def test_a_cell_whose_tuning_fails_leaves_its_finding_undecided(world):
    def failing(config, effect):
        if config.norm_name == "batch":
            raise RuntimeError("the machine is on fire")
        return accuracy(config, effect)

    world.behaviour = failing
    with pytest.raises(SystemExit):
        world()
    (verdict,) = read_json(world.output / "studies" / "planted-quick" / "verdicts.json")["verdicts"]
    assert (verdict["state"], verdict["reason"]) == ("undecided", "unusable")
    assert verdict["facts"] == {"problem": "10 tuning runs have no result; the same command repeats them"}


@pytest.mark.slow
def test_findings_share_runs(world):
    write(world.conf, finding(name="other", primary=False, claim=None), "other")
    write(world.conf, finding(name="third", primary=False, claim=None), "third")
    OmegaConf.save({"study": {"name": "s", "title": "Two", "findings": ["other", "third"]}}, _study(world, "s"))
    verdicts = world("scale.findings=all", study="s")
    assert len(world.done) == 2 * 5 * 2 + 2 * 8
    assert verdicts[0].deciding.values == verdicts[1].deciding.values


def test_a_run_tells_from_the_start_all_the_findings_that_it_serves(world):
    renamed = {"arms": {"ln": ["norm=layer"], "batch": ["norm=batch"]}, "contrasts": {"main": "ln - batch"}}
    for name, changes in (("other", {}), ("third", renamed)):
        write(world.conf, finding(name=name, primary=False, claim=None, tune=None, **changes), name)
    OmegaConf.save({"study": {"name": "s", "title": "Two", "findings": ["other", "third"]}}, _study(world, "s"))
    world("scale.findings=all", study="s")
    assert len(world.done) == 2 * 8
    expected = {
        "layer": ["finding:other", "arm:layer", "finding:third", "arm:ln"],
        "batch": ["finding:other", "arm:batch", "finding:third"],
    }
    assert read_serving(world.output)
    for name, tags in read_serving(world.output).items():
        assert tags == expected[name.split("-")[1]]
        assert read_json(world.output / "runs" / name / "config.json")["serves"] == tags


@pytest.mark.slow
def test_what_a_run_serves_is_no_part_of_it(world):
    write(world.conf, finding(name="other", primary=False, claim=None), "other")
    world()
    OmegaConf.save({"study": {"name": "s", "title": "One", "findings": ["other"]}}, _study(world, "s"))
    world("scale.findings=all", study="s")
    assert world.done == []
    found = read_serving(world.output)
    assert {"finding:planted", "finding:other"} == set.intersection(*map(set, found.values()))


@pytest.mark.slow
def test_a_study_extended_after_a_look_keeps_its_first_verdict(world):
    world.effect = 0.0105
    (first,) = world()
    (second,) = world("scale.seeds.training=12")
    assert first.first is None
    assert (second.first["n"], second.first["state"]) == (8, first.state)


def test_a_rule_that_changes_after_the_data_is_refused(world):
    world()
    write(world.conf, finding(margin=0.001))
    with pytest.raises(InputError, match="has changed since its first verdict, supported"):
        world()


def test_a_metric_that_nobody_logs_is_refused_before_anything_runs(world):
    write(world.conf, finding(metric="test/acuracy"))
    with pytest.raises(InputError, match=r"conf/finding/planted.yaml: finding.metric: test/acuracy is not logged"):
        world()
    assert world.done == []


def test_a_cell_without_meaning_is_refused_by_its_file(world):
    write(world.conf, finding(arms={"layer": ["norm=layer"], "batch": ["norm=instance"]}))
    with pytest.raises(InputError, match=r"conf/finding/planted.yaml: norm=instance is not valid"):
        world()


def test_fewer_than_two_seeds_are_refused(world):
    with pytest.raises(InputError, match=r"scale.seeds.training=1"):
        world("scale.seeds.training=1")


def test_a_family_of_other_than_six_primaries_is_refused(world):
    OmegaConf.save({"study": {"name": "s", "title": "T", "family": True, "findings": ["planted"]}}, _study(world, "s"))
    with pytest.raises(InputError, match=r"s.yaml: study.findings must have one primary finding per claim, 1 to 6"):
        read_study(world.conf, "s")


def test_what_the_findings_fix_is_not_the_users_choice():
    assert users_choices(["study=textbook", "scale.seeds.training=9", "output=x"]) == ["output=x"]
    for choice in ("model.width=3", "norm=batch", "trainer.steps=3", "finding.margin=0.1"):
        with pytest.raises(InputError, match=choice):
            users_choices([choice])


def _study(world, name):
    path = world.conf / "study" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def tree(*folders):
    """Every file below the folders with its content and time, and every folder."""
    return {
        path: (path.read_bytes(), path.stat().st_mtime_ns) if path.is_file() else None
        for folder in folders
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize(
    "options", [(), *(pytest.param((o,), marks=pytest.mark.slow) for o in ("accept_code=true", "rerun=true"))]
)
def test_a_dry_study_writes_nothing(world, tmp_path, cache, options, monkeypatch):
    world()
    monkeypatch.setattr("normlab.sweep.plan.code_hash", lambda config: "other code")
    before = tree(tmp_path / "out", cache)
    assert world("dry=true", *options) == []
    assert tree(tmp_path / "out", cache) == before


@pytest.mark.slow
def test_a_finished_study_that_is_stopped_early_keeps_its_records(world):
    for name in ("planted", "other"):
        write(world.conf, finding(name=name, primary=False), name)
    write_study(world.conf, "pair", ["planted", "other"])
    world("scale.findings=all", study="pair")
    folder = world.output / "studies" / "pair-quick"
    before = {name: (folder / name).read_text() for name in ("runs.csv", "curves.csv")}
    verdicts = read_json(folder / "verdicts.json")

    def stopped(config, effect):
        raise KeyboardInterrupt

    world.behaviour = stopped
    for options in ((), ("rerun=true",)):
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            world("scale.findings=all", *options, study="pair")
        assert read_json(folder / "verdicts.json") == verdicts
        assert {name: (folder / name).read_text() for name in before} == before
        assert set(read_progress(folder)) == {"planted", "other"}


@pytest.mark.parametrize("how", ["fewer", pytest.param("failed", marks=pytest.mark.slow)])
def test_a_finding_that_comes_to_less_keeps_its_earlier_records(world, how, capsys):
    world()
    folder = world.output / "studies" / "planted-quick"
    before, rows = read_json(folder / "verdicts.json"), read_rows(folder / "runs.csv")
    if how == "fewer":
        world("scale.seeds.training=4")
    else:

        def failing(config, effect):
            raise ValueError("broken") if config.seed == 3 else None

        world.behaviour = lambda c, e: accuracy(c, e) if c.seed != 3 else failing(c, e)
        with pytest.raises(SystemExit):
            world("rerun=true")
    assert read_json(folder / "verdicts.json")["verdicts"] == before["verdicts"]
    assert read_rows(folder / "runs.csv") == rows
    assert "the records keep the earlier results" in capsys.readouterr().out


@pytest.mark.slow
def test_a_damaged_table_is_set_aside(world):
    world()
    folder = world.output / "studies" / "planted-quick"
    for name in ("runs.csv", "verdicts.json"):
        (folder / name).write_text("damaged")
    world()
    assert {path.name for path in folder.glob("*damaged*")} == {"runs.csv.damaged-1", "verdicts.json.damaged-1"}
    assert read_json(folder / "verdicts.json")["verdicts"][0]["state"] == "supported"


def write_study(conf, name, findings):
    (conf / "study").mkdir(exist_ok=True)
    OmegaConf.save({"study": {"name": name, "title": name, "findings": findings}}, conf / "study" / f"{name}.yaml")
