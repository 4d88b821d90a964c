"""Runs are launched until each has ended: after a killed worker, and while another command works on one of them."""

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from rich.console import Console
from run_folders import config_of, write_owner

from normlab.folder.jsonfile import read_json
from normlab.runs.owner import _start_of, this_process
from normlab.runs.store import claim
from normlab.sweep import multirun
from normlab.sweep import rounds as module
from normlab.sweep.plan import Job, Outcome, write_outcome
from normlab.sweep.rounds import Rounds

SUMMARY = {"diverged": False, "validation/loss": 1.0}


class TerminatedWorkerError(Exception):
    """As joblib's."""


@pytest.fixture
def jobs(tmp_path):
    config = config_of("model=lstm", f"output={tmp_path}")
    return [Job(number, [f"seed={number}"], [], config, f"run-{number}", "code") for number in range(4)]


@pytest.fixture
def other():
    """A process of another command."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def begin(job: Job):
    return claim(job.folder.parents[1], job.id, job.code, {})[0]


def done(job: Job, plan: Path) -> None:
    begin(job).finish(SUMMARY)
    write_outcome(plan, Outcome("finished"))


def owned_by(process, **changes):
    return replace(this_process(), pid=process.pid, started=_start_of(process.pid), **changes)


class Pool:
    """Does runs as joblib does: it kills all that have begun when one of the deadly ones is reached."""

    def __init__(self, jobs, deadly, at_once):
        self.jobs, self.deadly, self.at_once = jobs, deadly, at_once
        self.launched = []

    def __call__(self, overrides, initial_job_idx):
        plans = [Path(o[-1].removeprefix("plan='").removesuffix("'")) for o in overrides]
        batch = [self.jobs[int(plan.stem)] for plan in plans]
        self.launched.append([job.number for job in batch])
        for first in range(0, len(batch), self.at_once):
            beginning = list(zip(batch, plans, strict=True))[first : first + self.at_once]
            if any(job.number in self.deadly for job, _ in beginning):
                for job, _ in beginning:
                    begin(job)
                raise TerminatedWorkerError("SIGKILL(-9)")
            for job, plan in beginning:
                done(job, plan)


def rounds(tmp_path, launch, pooled=True):
    return Rounds(Console(file=io.StringIO()), launch, tmp_path / "invocation", None, pooled)


def states(outcomes):
    return [outcomes[number].state for number in sorted(outcomes)]


def test_a_worker_that_is_killed_costs_its_own_run_alone(jobs, tmp_path):
    pool = Pool(jobs, deadly={1}, at_once=2)
    outcomes = rounds(tmp_path, pool).all_of(jobs, "continue")
    assert states(outcomes) == ["finished", "failed", "finished", "finished"]
    assert outcomes[1].cause == "its process was killed (TerminatedWorkerError: SIGKILL(-9))"
    assert pool.launched == [[0, 1, 2, 3], [2, 3], [0], [1]]


def test_a_run_that_was_killed_for_want_of_memory_finishes_alone(jobs, tmp_path):
    pool = Pool(jobs, deadly={1}, at_once=2)
    launch = pool.__call__

    def enough_alone(overrides, initial_job_idx):
        pool.deadly = {1} if len(overrides) > 1 else set()
        launch(overrides, initial_job_idx)

    outcomes = rounds(tmp_path, enough_alone).all_of(jobs, "continue")
    assert states(outcomes) == ["finished"] * 4


def test_each_of_several_deadly_runs_is_found(jobs, tmp_path):
    outcomes = rounds(tmp_path, Pool(jobs, deadly={0, 3}, at_once=2)).all_of(jobs, "continue")
    assert states(outcomes) == ["failed", "finished", "finished", "failed"]


def test_where_the_launcher_itself_is_broken_nothing_is_tried_for_ever(jobs, tmp_path):
    launched = []

    def broken(overrides, initial_job_idx):
        launched.append(len(overrides))
        raise ValueError("no such option")

    outcomes = rounds(tmp_path, broken).all_of(jobs, "continue")
    assert states(outcomes) == ["failed"] * 4
    assert launched == [4, 4]


def test_a_plan_is_found_whatever_its_folder_is_called(jobs, tmp_path):
    invocation = tmp_path / "a [b] $HOME 'x' ::y #z ${a}\\"
    found = []

    def launch(overrides, initial_job_idx):
        for own in overrides:
            (plan,) = OverridesParser.create().parse_overrides(own[-1:])
            found.append(Path(OmegaConf.create({"plan": plan.value()}).plan))

    rounds(invocation, launch).all_of(jobs[:1], "continue")
    assert {read_json(plan)["id"] for plan in found} == {"run-0"}  # launched again, as nothing was begun


def test_with_on_error_stop_nothing_is_launched_again(jobs, tmp_path):
    pool = Pool(jobs, deadly={1}, at_once=2)
    assert states(rounds(tmp_path, pool).all_of(jobs, "stop")) == ["failed"] * 4
    assert len(pool.launched) == 1


def test_a_run_of_another_command_is_waited_for(jobs, other, tmp_path, monkeypatch):
    run = begin(jobs[0])
    write_owner(jobs[0].folder, owned_by(other))
    monkeypatch.setattr(module.time, "sleep", lambda _: run.finish(SUMMARY))
    found = {0: Outcome("elsewhere")}
    rounds(tmp_path, None)._await_others(jobs[:1], found)
    assert found == {0: Outcome("skipped", "another command finished it")}


def test_a_run_that_another_command_let_go_of_is_done(jobs, other, tmp_path, monkeypatch):
    begin(jobs[0])
    write_owner(jobs[0].folder, owned_by(other))

    def die(_):
        other.kill()
        other.wait()

    monkeypatch.setattr(module.time, "sleep", die)
    found = {0: Outcome("elsewhere")}
    rounds(tmp_path, Pool(jobs, deadly=set(), at_once=2))._await_others(jobs[:1], found)
    assert found == {0: Outcome("finished")}


def test_one_that_writes_nothing_any_more_is_not_waited_for_for_ever(jobs, other, tmp_path, monkeypatch):
    begin(jobs[0])
    write_owner(jobs[0].folder, owned_by(other))
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    monkeypatch.setattr(module, "PAUSE", 0.01)
    found = {0: Outcome("elsewhere")}
    rounds(tmp_path, None)._await_others(jobs[:1], found)
    assert states(found) == ["elsewhere"]


def test_a_stopped_multirun_stops_its_own_runs_alone(jobs, other, tmp_path, monkeypatch):
    """Not those of another command, nor a process that has the number of one that is gone."""
    monkeypatch.setattr(multirun, "SETTLED", 0.1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as own:
        owners = [
            owned_by(own),
            owned_by(other, launch="start-1-another"),
            replace(owned_by(other), started="1"),
            owned_by(other, host="another"),
        ]
        for job, owner in zip(jobs, owners, strict=True):
            begin(job)
            write_owner(job.folder, owner)
        multirun._stop_runs(jobs, tmp_path, "joblib")
        assert own.wait(timeout=10) == -15
    assert other.poll() is None
    assert read_json(jobs[1].folder / "status.json")["state"] == "running"
