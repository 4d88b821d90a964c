"""Multiruns on a real SLURM: finished, failing, killed, cancelled and requeued jobs, and runs of two processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from commands import Command, runs
from exactness import LONG, differences, options, result, too_wide
from normlab.folder.jsonfile import read_json
from normlab.folder.resume_points import list_points
from normlab.runs.owner import read_owner

pytestmark = pytest.mark.slow


def run_of(output: Path, seed: int) -> Path:
    (folder,) = [folder for folder in runs(output) if read_json(folder / "config.json")["seed"] == seed]
    return folder


def has_saved(output: Path, seed: int) -> bool:
    """Is a process working on the run, and does it have a resume point?"""
    return any(
        read_json(folder / "config.json").get("seed") == seed and list_points(folder) and read_owner(folder)
        for folder in runs(output)
    )


def job_of(command: Command, output: Path, seed: int) -> str:
    """The number of the job that does a run, once it has saved."""
    command.until(lambda: has_saved(output, seed))
    owner = read_owner(run_of(output, seed))
    assert owner is not None
    assert owner.slurm is not None
    return owner.slurm


def logs(output: Path, job: str, task: int = 0) -> str:
    return "".join(path.read_text() for path in output.glob(f"invocations/*/slurm/{job}/{job}_{task}_log.*"))


def test_a_sweep_finishes_and_given_again_launches_nothing(sweep, cluster, cache, tmp_path):
    arguments = (
        "norm=batch,layer",
        "seed=0,1",
        *options("lstm", cache, tmp_path)[:2],
        "trainer.steps=3",
        "logger=none",
    )
    arguments = (*arguments, f"cache={cache}", f"output={tmp_path}")
    ended = sweep(*arguments).wait()
    assert ended.status == 0, ended.err
    assert "4 finished" in ended.out
    assert "sacct" not in ended.err
    assert len(runs(tmp_path)) == 4
    assert len(list(tmp_path.glob("invocations/*/slurm/*/*_result.pkl"))) == 4
    again = sweep(*arguments).wait()
    assert again.status == 0, again.err
    assert "4 runs: 4 finished" in again.out
    assert len(list(tmp_path.glob("invocations/*"))) == 1


def test_a_failing_job_is_named_and_the_rest_finishes(sweep, cache, tmp_path):
    ended = sweep(f"model.width=8,{too_wide()}", *options("lstm", cache, tmp_path)[2:], "model=lstm").wait()
    assert ended.status == 1, ended.out
    assert "1 finished, 1 failed" in ended.out
    (failed,) = tmp_path.glob("invocations/*/jobs/*.log")
    assert "Traceback" in failed.read_text()
    assert str(failed) in ended.out


def test_killed_cancelled_and_requeued_jobs_give_the_same_bits(sweep, cluster, zygote, cache, tmp_path):
    """One job gets SIGKILL, one is cancelled, one gets notice that its time is up; the sweep survives all of them."""
    struck, whole = tmp_path / "struck", tmp_path / "whole"
    for ended in zygote(*(options("lstm", cache, whole, *LONG, f"seed={seed}") for seed in range(3))):
        assert ended.status == 0, ended.err

    command = sweep(*options("lstm", cache, struck, *LONG), "seed=0,1,2")
    requeued = job_of(command, struck, 1)
    cluster.ask("scancel", "--signal=USR2", requeued)
    command.until(lambda: has_saved(struck, 0))
    os.kill(read_owner(run_of(struck, 0)).pid, signal.SIGKILL)
    cluster.ask("scancel", job_of(command, struck, 2))
    ended = command.wait()
    assert ended.status == 1, ended.out
    assert "1 finished, 1 failed, 1 stopped" in ended.out
    assert f"failed {run_of(struck, 0).name}: its process was killed" in ended.out
    assert f"stopped {run_of(struck, 2).name}: stopped by SIGTERM" in ended.out
    assert f"Requeued job {requeued}" in logs(struck, requeued)
    assert read_json(run_of(struck, 1) / "status.json")["attempt"] == 1

    again = sweep(*options("lstm", cache, struck, *LONG), "seed=0,1,2").wait()
    assert again.status == 0, again.err
    assert "3 runs: 1 finished, 2 interrupted; will resume" in again.out
    for seed in range(3):
        assert differences(result(run_of(struck, seed)), result(run_of(whole, seed))) == []


def test_a_lightning_project_in_two_tasks(sweep, cache, tmp_path):
    own = f"project={Path(__file__).parents[1] / 'lightning_variants.py'}:WithLoaders"
    common = ("metric=val/acc", "trainer.epochs=2", "trainer.threads=1", "logger=none")
    command = sweep(own, *common, "norm=layer,own", "trainer.devices=2", f"cache={cache}", f"output={tmp_path}")
    ended = command.wait(240)
    assert ended.status == 0, ended.out + ended.err
    assert "2 finished" in ended.out
    found = [read_json(folder / "summary.json") for folder in runs(tmp_path)]
    assert [summary["steps"] for summary in found] == [6, 6]  # 48 examples in batches of 8 of each process
    assert found[0]["batches"] == found[1]["batches"]


def test_runs_of_two_processes_equal_plain_ones_also_when_preempted(sweep, cluster, cache, tmp_path, two_processes):
    command = sweep(*options("lstm", cache, tmp_path, *LONG), "trainer.devices=2", "seed=0,1")
    requeued = job_of(command, tmp_path, 0)
    urgent = (f"--ntasks={cluster.cores}", "--partition=urgent", "--output=/dev/null", "--wrap=true")
    assert "Submitted" in cluster.ask("sbatch", *urgent)
    ended = command.wait()
    assert ended.status == 0, ended.out + ended.err
    assert "stopped" not in ended.out
    assert "2 finished" in ended.out
    assert f"Requeued job {requeued}" in logs(tmp_path, requeued)
    assert "global_rank=1(2)" in logs(tmp_path, requeued, task=1)
    assert len(runs(tmp_path)) == 2
    summary = read_json(run_of(tmp_path, 1) / "summary.json")
    assert summary["normalisation_batch_size"] == 8
    assert summary["examples"] == 100 * 16
    assert run_of(tmp_path, 0).name == two_processes.name
    assert differences(result(run_of(tmp_path, 0)), result(two_processes)) == []
