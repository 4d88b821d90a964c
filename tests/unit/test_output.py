"""Printing into a closed pipe or terminal, a full disk, a closed descriptor or an ASCII terminal ends nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = r"""
from normlab.stopping.program import begin
begin(__name__)
import logging, sys, warnings
from pathlib import Path
from rich.console import Console
for _ in range(200):
    print("plain \xb7 line")
    Console().print("[bold]rich \xb7 line[/]")
    warnings.warn("a \xb7 warning")
    logging.warning("a \xb7 log line")
sys.stdout.flush()
Path(sys.argv[1]).write_text("done")
with open(sys.argv[1] + ".first", "w") as file:
    assert file.fileno() > 2
"""


@pytest.fixture
def finishes(tmp_path):
    """Does a program that prints a lot reach its end with these descriptors? What it said on standard error."""

    def run(**options):
        note = tmp_path / "note"
        command = [sys.executable, "-c", PROGRAM, str(note)]
        done = subprocess.run(command, timeout=60, check=False, **options)
        assert done.returncode == 0, done.stderr
        assert note.read_text() == "done"
        return (done.stderr or b"").decode()

    return run


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_once(finishes):
    with Path("/dev/full").open("wb") as full:
        assert finishes(stdout=full, stderr=subprocess.PIPE).count("standard output was lost: No space left") == 1
        finishes(stdout=full, stderr=full)


def test_a_reader_that_has_gone_is_not_complained_about(finishes):
    read, write = os.pipe()
    os.close(read)
    assert "cut off" not in finishes(stdout=write, stderr=subprocess.PIPE)
    finishes(stdout=write, stderr=write)
    os.close(write)


def test_a_closed_terminal(finishes):
    master, slave = os.openpty()
    os.close(master)
    assert "cut off" not in finishes(stdout=slave, stderr=subprocess.PIPE)
    finishes(stdout=slave, stderr=slave)
    os.close(slave)


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_descriptors(closed, finishes):
    finishes(preexec_fn=lambda: [os.close(number) for number in closed])


def test_a_pipe_that_does_not_wait_for_a_slow_reader(finishes):
    read, write = os.pipe()
    os.set_blocking(write, False)
    reader = subprocess.Popen([sys.executable, "-c", "import sys, time; time.sleep(1); sys.stdin.read()"], stdin=read)
    os.close(read)
    finishes(stdout=write, stderr=subprocess.DEVNULL)
    os.close(write)
    reader.wait(timeout=30)


@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii:strict"}],
)
def test_a_terminal_that_knows_only_ascii(environment, finishes):
    finishes(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, **environment})
