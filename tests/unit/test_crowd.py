"""A busy machine: waiting threads sleep, and the user is told of fewer threads. A quiet one: nothing changes."""

import os
import subprocess
import sys
import time

import pytest

from normlab.host.crowd import others_computing, sleep_while_waiting


@pytest.fixture(autouse=True)
def _no_policy(monkeypatch):
    monkeypatch.setattr(os, "environ", {**os.environ})
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        os.environ.pop(name, None)


@pytest.mark.parametrize(("threads", "others", "cores"), [(1, 30, 2), (2, 0, 2), (8, 8, 16)])
def test_where_there_is_room_nothing_changes(threads, others, cores):
    assert sleep_while_waiting(threads, others, cores) == ""
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize(("threads", "others", "cores"), [(2, 1, 2), (16, 1, 16), (2, 9, 8)])
def test_where_there_is_not_threads_sleep_and_the_user_is_told(threads, others, cores):
    said = sleep_while_waiting(threads, others, cores)
    assert f"{others} other" in said
    assert "trainer.threads=1" in said
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"])
def test_the_users_own_policy_is_kept(name):
    os.environ[name] = "ACTIVE"
    assert sleep_while_waiting(2, 9, 2) == ""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts by /proc/stat")
def test_processes_that_compute_are_counted():
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        time.sleep(0.3)
        assert others_computing() >= 3
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@pytest.mark.parametrize("text", ["cpu 1 2 3\n", "procs_running many\n", ""])
def test_other_systems_count_none(tmp_path, text):
    (tmp_path / "stat").write_text(text)
    assert others_computing(tmp_path / "stat") == others_computing(tmp_path / "none") == 0
