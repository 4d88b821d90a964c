"""`train.py` in forked processes: torch is imported once, so that a trial costs its training and no start.

As a program it serves requests, one JSON line each; `Zygote` is its client. The serving process never trains, so its
children begin as a fresh process would.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass
class Ended:
    """How a command ended: exit status, or minus the signal that killed it."""

    status: int
    out: str
    err: str


class Zygote:
    """Runs commands in children of one imported process."""

    def __init__(self) -> None:
        environment = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *commands: list[str], at_step: dict[str, Any] | None = None, after: Any = None) -> list[Ended]:
        """Run commands side by side until all have ended.

        Args:
            at_step: {"step": n, "signal": name}: a command sends itself that signal when it has done n steps;
                "file" in place of "signal" truncates that file then, and kills.
            after: {"seconds": s, "signal": name}: every command gets that signal after a time.
        """
        request = {"commands": commands, "at_step": at_step, "after": after}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return [Ended(**answer) for answer in json.loads(self._server.stdout.readline())]

    def close(self) -> None:
        self._server.stdin.close()
        self._server.wait(timeout=30)


def main() -> None:
    sys.path.insert(0, str(ROOT))
    import pytorch_lightning  # noqa: F401
    import torch

    import normlab.measures.training
    import normlab.runs.run  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        answers = _serve(json.loads(line))
        print(json.dumps(answers), flush=True)


def _serve(request: dict[str, Any], limit: float = 120) -> list[dict[str, Any]]:
    started, running, answers = time.monotonic(), {}, {}
    for number, command in enumerate(request["commands"]):
        files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        pid = os.fork()
        if pid == 0:
            _child(command, files, request["at_step"])
        running[pid] = (number, files)
    after, signalled = request["after"], False
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in running:
            number, files = running.pop(pid)
            texts = []
            for file in files:
                file.seek(0)
                texts.append(file.read())
                file.close()
            answers[number] = {"status": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1]}
            continue
        elapsed = time.monotonic() - started
        if after and not signalled and elapsed > after["seconds"]:
            signalled = True
            for child in running:
                os.kill(child, getattr(signal, after["signal"]))
        if elapsed > limit:
            for child in running:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.005)
    return [answers[number] for number in sorted(answers)]


def _child(command: list[str], files: list[Any], at_step: dict[str, Any] | None) -> None:
    os.setsid()
    os.environ["NORMLAB_PID"] = str(os.getpid())
    for number, file in enumerate(files, start=1):
        os.dup2(file.fileno(), number)
    status = 70
    try:
        import train

        from normlab.cli import guard

        if at_step is not None:
            _fault(at_step)
        sys.argv = ["train.py", *command]
        with guard():
            train.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _fault(fault: dict[str, Any]) -> None:
    """Arrange for something to happen when the training has done that many steps."""
    from normlab.measures.callbacks import Heartbeat

    def happen(self: Any, trainer: Any, *_: Any) -> None:
        if trainer.global_step == fault["step"]:
            os.kill(os.getpid(), getattr(signal, fault["signal"]))

    Heartbeat.on_train_batch_end = happen


if __name__ == "__main__":
    main()
