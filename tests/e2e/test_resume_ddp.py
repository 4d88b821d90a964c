"""Runs of two processes, killed or stopped and resumed, give the same bits as ones that were never interrupted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from commands import Command, runs
from exactness import LONG, differences, options, result
from normlab.folder.jsonfile import read_json
from normlab.folder.resume_points import list_points, newest_intact

pytestmark = pytest.mark.slow


def start(cache: Path, output: Path) -> Command:
    return Command(options("lstm", cache, output, *LONG, "trainer=ddp"), os.environ)


def reach(command: Command, output: Path, step: int) -> list[int]:
    """Wait for a resume point at that step or later; the processes of the run, the first one first."""
    command.until(lambda: any(point.step >= step for folder in runs(output) for point in list_points(folder)))
    return [command.process.pid, *children(command.process.pid)]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_gone(pids: list[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"{alive} of {pids} still run"
        time.sleep(0.1)


def test_killed_stopped_and_resumed(cache, tmp_path, two_processes):
    """All processes killed, then the first one alone, then stopped by SIGTERM."""
    command = start(cache, tmp_path)
    pids = reach(command, tmp_path, 5)
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert command.wait().status == -signal.SIGKILL
    (folder,) = runs(tmp_path)
    first = newest_intact(folder).step

    command = start(cache, tmp_path)
    pids = reach(command, tmp_path, first + 5)
    command.process.kill()
    command.wait()
    assert_gone(pids, 30)
    second = newest_intact(folder).step

    command = start(cache, tmp_path)
    pids = reach(command, tmp_path, second + 5)
    command.process.terminate()
    ended = command.wait()
    assert ended.status == 143, ended.err
    assert_gone(pids, 10)
    stopped = read_json(folder / "status.json")
    assert stopped["state"] == "stopped"
    assert stopped["cause"] == f"stopped by SIGTERM after step {newest_intact(folder).step}, which is saved"
    assert "The same command resumes from step" in ended.err
    assert not (folder / "owner").exists()

    ended = start(cache, tmp_path).wait()
    assert ended.status == 0, ended.err
    assert differences(result(folder), result(two_processes)) == []
