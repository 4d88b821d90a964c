"""The multirun's engine, with a fake launcher and runs: what is launched, and what is reported."""

import errno
import os
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_up_runs import Launcher, made_up
from omegaconf import OmegaConf

from normlab.config.schema import InputError
from normlab.folder.jsonfile import read_json, write_json
from normlab.sweep import compose as composing
from normlab.sweep import job as jobs_module
from normlab.sweep import multirun
from normlab.sweep.compose import Composer
from normlab.sweep.multirun import sweep

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def world(tmp_path, cache, monkeypatch):
    """A multirun with made-up runs: `world(overrides, ...)` returns its exit status."""
    monkeypatch.setattr(sys, "argv", ["train.py"])
    common = (f"output={tmp_path / 'out'}", f"cache={cache}", "logger=none", "trainer.threads=1")

    def load(overrides):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides=[*common, *overrides], return_hydra_config=True)
        cfg.hydra.sweep.dir = str(tmp_path / "invocation")
        return cfg

    class World:
        def __init__(self):
            self.launcher = Launcher(load)
            self.behaviour = failing()
            self.done = []
            self.invocation = tmp_path / "invocation"

        def __call__(self, *combinations, options=()):
            self.launcher.launched.clear()
            self.done.clear()
            full = [[*options, *overrides] for overrides in combinations]
            base = load(options)
            self.composer = Composer(load, base)
            try:
                sweep(full, self.composer, self.launcher, base)
            except SystemExit as end:
                return end.code
            return 0

    world = World()

    monkeypatch.setattr(jobs_module, "do", made_up(lambda config: world.behaviour(config), world.done))
    return world


def grid(norms=("batch", "layer"), seeds=(0, 1)):
    return [[f"norm={norm}", "model=lstm", f"seed={seed}"] for norm in norms for seed in seeds]


def failing(*names):
    def behaviour(config):
        if f"{config.norm_name}-{config.seed}" in names:
            raise RuntimeError("the machine is on fire")
        return {"diverged": False, "validation/accuracy": 0.5, "seconds": 1.0}

    return behaviour


def test_only_what_is_missing_is_launched(world, capsys):
    assert world(*grid()) == 0
    assert world.done == ["batch-0", "batch-1", "layer-0", "layer-1"]
    assert world(*grid()) == 0
    assert world.launcher.launched == []
    assert "4 runs: 4 finished" in capsys.readouterr().out
    assert world(*grid(seeds=(0, 1, 2))) == 0
    assert world.done == ["batch-2", "layer-2"]
    assert [overrides[-1] for overrides in world.launcher.launched] == ["seed=2", "seed=2"]


def test_choices_that_lead_to_one_run_are_done_once(world, capsys):
    assert world(["model=lstm", "norm=layer", "seed=0"], ["model=lstm", "norm=layer", "norm.eps=1e-5", "seed=0"]) == 0
    assert world.done == ["layer-0"]
    assert "1 run: 1 new (1 combinations are the same as another run)" in capsys.readouterr().out


@pytest.mark.slow
def test_a_failure_is_named_and_the_rest_goes_on(world, capsys):
    world.behaviour = failing("batch-1")
    assert world(*grid()) == 1
    assert world.done == ["batch-0", "batch-1", "layer-0", "layer-1"]
    out = capsys.readouterr().out
    assert "3 finished, 1 failed" in out
    assert "RuntimeError: the machine is on fire" in out
    log = world.invocation / "jobs" / "0001.log"
    assert str(log) in out
    assert "Traceback" in log.read_text()
    rows = (world.invocation / "table.csv").read_text().splitlines()
    assert len(rows) == 5
    assert sum(",failed," in row for row in rows) == 1
    world.behaviour = failing()
    assert world(*grid()) == 0
    assert world.done == ["batch-1"]


def test_a_disk_that_fills_up_at_the_end_ends_nothing(world, monkeypatch, capfd):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(multirun, "write_table", full)
    monkeypatch.setattr(multirun, "write_cells", full)
    assert world(*grid()) == 0
    out, err = capfd.readouterr()
    assert "table.csv was not written: No space left on device. The runs are saved" in err
    assert "cells.csv was not written" in err
    assert "results: " not in out
    assert world(*grid()) == 0
    assert world.done == []


def test_on_error_stop(world, capsys):
    world.behaviour = failing("batch-1")
    assert world(*grid(), options=["on_error=stop"]) == 1
    assert world.done == ["batch-0", "batch-1"]
    assert "1 finished, 1 failed, 2 not started" in capsys.readouterr().out


def test_on_error_retry(world):
    tries = []

    def behaviour(config):
        tries.append(config.seed)
        if config.seed == 1 and tries.count(1) < 3:
            raise RuntimeError("once more")
        return {"validation/accuracy": 0.5}

    world.behaviour = behaviour
    assert world(*grid(norms=("layer",)), options=["on_error=retry:1"]) == 1
    assert tries == [0, 1, 1]
    assert world(*grid(norms=("layer",)), options=["on_error=retry:1"]) == 0
    assert tries == [0, 1, 1, 1]


def test_divergence_is_a_result(world, capsys):
    world.behaviour = lambda config: {"diverged": True}
    assert world(*grid()) == 0
    assert "4 diverged" in capsys.readouterr().out


def test_a_bad_value_stops_before_the_first_run(world):
    with pytest.raises(InputError, match=r"optim.lr=0"):
        world(["model=lstm", "optim.lr=1"], ["model=lstm", "optim.lr=0"])
    assert world.done == []
    assert not world.invocation.exists()


def test_a_dry_run_launches_nothing(world, capsys):
    world(*grid(seeds=(0,)))
    assert world(*grid(), options=["dry=true"]) == 0
    assert world.launcher.launched == []
    out = capsys.readouterr().out
    assert "4 runs: 2 finished, 2 new" in out
    assert "sequentially about 2 s" in out
    assert "from past runs" in out


def test_a_launcher_that_breaks_leaves_a_named_failure(world, capsys):
    def breaks(number):
        if number == 1:
            raise MemoryError("a worker was killed")

    world.launcher.before = breaks
    assert world(*grid()) == 1
    out = capsys.readouterr().out
    assert "1 finished, 3 failed" in out
    assert "it was not started (MemoryError: a worker was killed)" in out


@pytest.mark.slow
def test_a_config_edited_meanwhile_is_refused(world, capsys):
    """What a job composes to is no longer what was planned."""
    load = world.launcher.load
    world.launcher.load = lambda overrides: load([*overrides, "optim.lr=0.5"])
    assert world(*grid(seeds=(0,))) == 1
    assert world.done == []
    assert "changed since it was planned: optim.lr was 0.012 and is 0.5" in capsys.readouterr().out


def test_code_edited_meanwhile_is_refused(world, monkeypatch, capsys):
    monkeypatch.setattr(jobs_module, "code_hash", lambda config: "other")
    assert world(*grid(seeds=(0,))) == 1
    assert world.done == []
    assert "the code has been edited" in capsys.readouterr().out


def test_code_that_has_changed_makes_results_stale_unless_accepted(world, monkeypatch, capsys):
    world(*grid(seeds=(0,)))
    for status in (world.invocation.parent / "out" / "runs").glob("*/status.json"):
        write_json(status, {**read_json(status), "code": "older"})
    assert world(*grid(seeds=(0,)), options=["dry=true"]) == 0
    assert "2 code changed since; will be repeated" in capsys.readouterr().out
    assert world(*grid(seeds=(0,)), options=["accept_code=true"]) == 0
    assert world.done == []
    assert world(*grid(seeds=(0,))) == 0
    assert world.done == []


def test_seeds_of_a_cell_are_composed_once_and_remembered(world, cache):
    loads = []
    load = world.launcher.load
    composer = Composer(lambda overrides: loads.append(overrides) or load(overrides), load([]))
    combinations = grid(norms=("rms", "dyt"), seeds=range(20))
    configs = composer(combinations, cache)
    assert len(loads) == 2
    assert [config.seed for config in configs[:20]] == list(range(20))
    again = composer(combinations, cache)
    assert len(loads) == 2
    assert again == configs
    other = Composer(composer.load, load(["optim.lr=0.5"]))  # another multirun in between forgets nothing
    other(combinations, cache)
    assert len(loads) == 4
    assert composer(combinations, cache) == configs
    assert len(loads) == 4


def test_a_config_file_that_changes_is_composed_again(world, cache, monkeypatch, tmp_path):
    copy = tmp_path / "conf"
    (copy / "norm").mkdir(parents=True)
    file = copy / "norm" / "layer.yaml"
    file.write_text("a: 1\n")
    monkeypatch.setattr(composing, "CONF", copy)
    base = world.launcher.load([])
    before = composing._state(base)
    assert composing._state(base) == before
    assert composing._state(world.launcher.load(["optim.lr=1"])) != before
    file.write_text("a: 12\n")
    assert composing._state(base) != before


@pytest.mark.parametrize("rate", ["${oc.decode:${oc.env:LR}}", "${read_rate:}"])
def test_what_a_resolver_reads_is_read_each_time(world, cache, monkeypatch, rate):
    OmegaConf.register_new_resolver("read_rate", lambda: float(os.environ["LR"]), replace=True)
    load, loads = world.launcher.load, []
    combinations = [["model=lstm", f"optim.lr='{rate}'", f"seed={seed}"] for seed in (0, 1)]
    found = []
    for value in ("0.1", "0.01"):
        monkeypatch.setenv("LR", value)
        composer = Composer(lambda overrides: loads.append(overrides) or load(overrides), load([]))
        found.append(composer(combinations, cache)[1].optim.lr)
    assert found == [0.1, 0.01]
    assert len(loads) == 4


@pytest.mark.parametrize("text", ["${oc.env:LR}", "${oc.${name}:LR}", "a ${ env : LR}", "${\noc.env:LR}"])
def test_every_form_of_a_resolver_is_seen(text):
    assert composing._resolves(f"optim.lr={text} model.width=${{width}}")
    assert not composing._resolves("output=${output}/a:b")


def test_a_seed_that_stands_elsewhere_too_is_composed_each_time(world, cache):
    combinations = [["model=lstm", "output=out-${seed}", f"seed={seed}"] for seed in (0, 1)]
    composer = Composer(world.launcher.load, world.launcher.load([]))
    assert [config.output for config in composer(combinations, cache)] == ["out-0", "out-1"]
