"""Multiruns as a user gives them: what is killed, stopped, edited or broken meanwhile costs no finished run."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exactness import differences, options, result
from normlab.folder.jsonfile import read_json

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
TINY = ("model=lstm", "model.width=16", "trainer.batches=5", "trainer.epochs=1", "trainer.threads=1", "logger=none")


def states(output: Path) -> dict[str, str]:
    """norm-seed → state of each run."""
    folders = sorted((output / "runs").iterdir())
    return {"-".join(f.name.split("-")[1:4:2]): read_json(f / "status.json").get("state") for f in folders}


@pytest.mark.slow
def test_a_killed_multirun_goes_on_and_gives_what_single_runs_give(zygote, cache, tmp_path):
    single, sweep = tmp_path / "single", tmp_path / "sweep"
    for seed in (0, 1):
        (ended,) = zygote([*options("lstm", cache, single), f"seed={seed}"])
        assert ended.status == 0, ended.err
    command = ["-m", *options("lstm", cache, sweep, "trainer.save_steps=2"), "seed=0,1"]
    for step in (3, 9):  # the first run twice
        (ended,) = zygote(command, at={"step": step, "signal": "SIGKILL"})
        assert ended.status == -9
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert "2 runs: 1 interrupted; will resume, 1 new" in ended.out
    assert "resumed after step 8" in ended.out
    names = sorted(path.name for path in (single / "runs").iterdir())
    assert sorted(path.name for path in (sweep / "runs").iterdir()) == names
    for name in names:
        assert not differences(result(sweep / "runs" / name), result(single / "runs" / name))
    (again,) = zygote(command)
    assert again.status == 0
    assert "2 runs: 2 finished" in again.out
    assert len(list((sweep / "invocations").iterdir())) == 3  # the last one had nothing to do


@pytest.mark.parametrize(("name", "status"), [pytest.param("SIGINT", 130, marks=pytest.mark.slow), ("SIGTERM", 143)])
def test_a_stopped_multirun_saves_and_says_how_to_go_on(name, status, zygote, cache, tmp_path):
    command = ["-m", *options("lstm", cache, tmp_path), "seed=0,1"]
    (ended,) = zygote(command, at={"step": 7, "signal": name})
    assert ended.status == status, ended.err
    assert "The same command runs the rest: python train.py -m" in ended.err
    assert "1 stopped, 1 not started" in ended.out
    assert states(tmp_path) == {"batch-0": "stopped"}
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert "resumed after step 7" in ended.out


def test_a_failing_run_is_named_and_the_others_are_done(train, tmp_path, monkeypatch):
    from normlab.mirror.progress import Heartbeat

    def fail(self, trainer, task, *_):
        if "batch" in self.folder.folder.name.split("-") and trainer.global_step == 3:
            raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(Heartbeat, "on_train_batch_end", fail)
    answer = train("-m", *TINY, "norm=batch,layer", "seed=0,1")
    assert answer.status == 1
    assert states(tmp_path / "outputs") == {f"{n}-{s}": w for n, w in _ENDED.items() for s in (0, 1)}
    assert "2 finished, 2 failed" in answer.out
    assert answer.out.count("RuntimeError: the machine is on fire · ") == 2
    (table,) = (tmp_path / "outputs" / "invocations").glob("*/table.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["state"] for row in rows] == ["failed", "failed", "finished", "finished"]
    assert "on fire" in Path(rows[0]["log"]).read_text()
    monkeypatch.undo()
    monkeypatch.setenv("WANDB_MODE", "offline")


_ENDED = {"batch": "failed", "layer": "finished"}


@pytest.fixture
def project(tmp_path):
    """A copy of the project whose files a test may edit: `project(*arguments)` starts train.py there."""
    copy = tmp_path / "project"
    for name in ("conf", "src"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("packs", "__pycache__", "*.egg-info"))
    (copy / "src/normlab/data/packs").symlink_to(ROOT / "src/normlab/data/packs")
    shutil.copy(ROOT / "train.py", copy)
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "WANDB_MODE": "offline"}
    started = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "train.py", *arguments, f"output={tmp_path / 'outputs'}"]
        process = subprocess.Popen(
            command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    start.folder = copy
    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "why"),
    [
        ("conf/optim/for_lstm.yaml", "lr: 1.2e-2", "lr: 2e-2", "optim.lr was 0.012 and is 0.02"),
        ("src/normlab/norms/layer.py", "        self.eps = eps", "        self.eps = 2 * eps", "code has been edited"),
        ("src/normlab/norms/layer.py", "        self.eps = eps", "        self.eps = eps  # a remark", None),
    ],
)
def test_an_edit_meanwhile_changes_no_later_run(file, old, new, why, project, cache, tmp_path):
    sweep = project(
        "-m", *TINY[:2], "trainer.threads=1", "trainer.steps=150", "logger=none", "seed=0,1", f"cache={cache}"
    )
    wait_for(lambda: list((tmp_path / "outputs").glob("runs/*/progress.json")))
    path = project.folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    out, err = sweep.communicate(timeout=120)
    if why is None:
        assert sweep.returncode == 0, err
        assert states(tmp_path / "outputs") == {"layer-0": "finished", "layer-1": "finished"}
        return
    assert sweep.returncode == 1, err
    assert states(tmp_path / "outputs") == {"layer-0": "finished"}
    assert "changed since it was planned" in out
    assert why in out
    assert "Repeat the command" in out


@pytest.mark.slow
def test_joblib_workers_save_when_the_multirun_is_stopped(project, cache, tmp_path):
    arguments = ("-m", "launcher=joblib", *TINY[:2], "trainer.steps=400", "logger=none", "seed=0,1,2", f"cache={cache}")
    sweep = project(*arguments)
    wait_for(lambda: len(list((tmp_path / "outputs").glob("runs/*/progress.json"))) == 2)
    sweep.send_signal(signal.SIGTERM)
    out, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 143, err
    assert "The same command runs the rest" in err
    assert "2 stopped, 1 not started" in out
    again = project(*arguments)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert "2 interrupted; will resume" in out
    assert "3 finished" in out
    assert set(states(tmp_path / "outputs").values()) == {"finished"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",  # the papers', of data that is downloaded, are in test_paper.py
    sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if not path.stem.startswith("paper_")),
)
def test_every_experiment_runs_at_the_smallest_scale(experiment, train, tmp_path):
    smallest = ("trainer.steps=1", "trainer.batches=1", "trainer.threads=1", "task.eval_batch_size=8", "seed=0")
    answer = train(f"experiment={experiment}", *smallest, "logger=none")
    assert answer.status == 0, answer.err
    summaries = list((tmp_path / "outputs").glob("runs/*/summary.json"))
    assert len(summaries) >= 6
    assert all(read_json(summary).get("steps", 1) == 1 for summary in summaries)  # a probe takes none
