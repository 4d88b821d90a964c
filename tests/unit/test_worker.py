"""A worker whose multirun was killed ends: at once when it has nothing to do, otherwise when its run is saved."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from normlab.sweep.worker import MULTIRUN

# The multirun: starts a worker, which inherits its number, and waits. The worker does a job, then waits for another.
PROGRAM = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', *sys.argv[1:]]).wait()"
WORKER = """
import os, signal, sys, time
from pathlib import Path
from normlab.sweep.worker import ending_with_its_multirun

folder, busy = Path(sys.argv[1]), sys.argv[2] == "busy"
heard = []
with ending_with_its_multirun():
    signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    (folder / "pid").write_text(str(os.getpid()))
    while busy and not heard:
        time.sleep(0.01)
    if busy:
        time.sleep(0.5)  # it saves
        (folder / "saved").touch()
while not heard:  # deaf, as a worker that is stuck in a pipe is
    time.sleep(0.01)
time.sleep(60)
"""


def wait_for(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def start(folder: Path, state: str, variable: str = MULTIRUN) -> tuple[subprocess.Popen[bytes], int]:
    multirun = subprocess.Popen(
        [sys.executable, "-c", f"import os; os.environ['{variable}'] = str(os.getpid()); {PROGRAM}",
         WORKER, str(folder), state]
    )  # fmt: skip
    wait_for(lambda: (folder / "pid").exists() and (folder / "pid").read_text())
    return multirun, int((folder / "pid").read_text())


def is_there(pid: int) -> bool:
    """Does it run? A zombie that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("state", ["idle", "busy"])
def test_it_ends_with_its_multirun(state, tmp_path):
    multirun, worker = start(tmp_path, state)
    multirun.kill()
    multirun.wait()
    wait_for(lambda: not is_there(worker))
    assert (tmp_path / "saved").exists() == (state == "busy")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_something_else_started_stays(tmp_path):
    multirun, worker = start(tmp_path, "idle", "ANOTHER")
    multirun.kill()
    multirun.wait()
    time.sleep(1.5)
    assert is_there(worker)
    os.kill(worker, signal.SIGKILL)
