"""`python train.py …` in its own process, for tests that can't use a forked one."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass
class Ended:
    """How a command ended: exit status, or minus the signal that killed it."""

    status: int
    out: str
    err: str


class Command:
    """A started command."""

    def __init__(self, arguments: list[str], environment: Mapping[str, str]) -> None:
        self._out, self._err = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "train.py", *arguments],
            cwd=ROOT,
            env={**environment, "WANDB_MODE": "offline"},
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,  # as in a terminal of its own: a group that Ctrl-C goes to
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )

    def wait(self, limit: float = 120) -> Ended:
        """Until it has ended; past the limit it is killed and the test fails with what it has said."""
        try:
            status = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise TimeoutError(f"no end within {limit} s\n{self._said()}") from None
        return Ended(status, *self._said())

    def until(self, condition: Callable[[], object], limit: float = 60) -> None:
        """Until something is so, which it must be before the command ends."""
        deadline = time.monotonic() + limit
        while not condition():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise TimeoutError(f"it did not come to that\n{self._said()}")
            time.sleep(0.02)

    def _said(self) -> tuple[str, str]:
        said = []
        for file in (self._out, self._err):
            file.seek(0)
            said.append(file.read())
        return said[0], said[1]


def runs(output: Path) -> list[Path]:
    """The folders of an output folder's runs, by name."""
    return sorted((output / "runs").glob("*")) if (output / "runs").is_dir() else []
