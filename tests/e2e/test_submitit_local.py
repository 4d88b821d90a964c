"""Multiruns whose runs are separate processes on this machine."""

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


def sweep(*arguments: str) -> Command:
    return Command(["-m", "launcher=submitit_local", *arguments], os.environ)


def at_work(output: Path) -> list[Path]:
    """The runs that a process works on and that have a resume point."""
    return [folder for folder in runs(output) if list_points(folder) and read_owner(folder)]


def test_a_failing_and_a_killed_job_are_named_and_the_rest_finishes(cache, tmp_path):
    command = sweep("model=lstm", f"model.width={too_wide()},16,8", *options("lstm", cache, tmp_path, *LONG)[2:])
    command.until(lambda: at_work(tmp_path))
    killed = at_work(tmp_path)[0]
    os.kill(read_owner(killed).pid, signal.SIGKILL)
    ended = command.wait()
    assert ended.status == 1, ended.out
    assert "1 finished, 2 failed" in ended.out
    assert f"failed {killed.name}: its process was killed" in ended.out
    (log,) = tmp_path.glob("invocations/*/jobs/*.log")
    assert str(log) in ended.out


def test_a_stopped_sweep_lets_its_jobs_save_and_goes_on_when_given_again(zygote, cache, tmp_path):
    """Stopped by Ctrl-C, then by SIGTERM, then left alone."""
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    for ended in zygote(*(options("lstm", cache, whole, *LONG, f"seed={seed}") for seed in range(2))):
        assert ended.status == 0, ended.err
    arguments = (*options("lstm", cache, stopped, *LONG), "seed=0,1")

    for signum, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        command = sweep(*arguments)
        command.until(lambda: at_work(stopped))
        saving = at_work(stopped)
        if signum == signal.SIGINT:  # a terminal sends it to every process of the command
            os.killpg(command.process.pid, signum)
        else:
            command.process.send_signal(signum)
        ended = command.wait()
        assert ended.status == status, ended.err
        assert "Finished runs are kept. The same command runs the rest" in ended.err
        assert not any((folder / "owner").exists() for folder in runs(stopped))
        for folder in saving:
            assert "which is saved" in read_json(folder / "status.json")["cause"]

    again = sweep(*arguments).wait()
    assert again.status == 0, again.err
    assert [folder.name for folder in runs(stopped)] == [folder.name for folder in runs(whole)]
    for one, other in zip(runs(stopped), runs(whole), strict=True):
        assert differences(result(one), result(other)) == []
