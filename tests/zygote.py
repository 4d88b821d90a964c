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
from pathlib import Path
from typing import Any

import moments
from commands import Ended

ROOT = Path(__file__).parents[1]


class Zygote:
    """Runs commands in children of one imported process."""

    def __init__(self) -> None:
        environment = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
        environment.pop("WANDB_SERVICE", None)  # of a client in this process: runs of all tests would meet in it
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(
        self,
        *commands: list[str],
        at: dict[str, Any] | None = None,
        after: dict[str, Any] | None = None,
        apart: float = 0.0,
        limit: float = 120.0,
        witness: Path | None = None,
        count: dict[str, str] | None = None,
        environment: dict[str, str] | None = None,
    ) -> list[Ended]:
        """Run commands side by side until all have ended. A fault strikes the first of them.

        Args:
            at: {"step": n, "signal": name}: it sends itself that signal when it has done n steps; for other moments
                see `moments.arrange`.
            after: {"seconds": s, "signal": name}: it gets that signal after a time.
            apart: seconds between two starts.
            limit: seconds after which all are killed.
            witness: a folder where every computation is noted, see `moments.witness`.
            count: {"under": folder, "note": file}: see `moments.count_changes`.
            environment: of the commands, on top of the present one.
        """
        inside = {"at": at, "witness": witness and str(witness), "count": count, "environment": environment or {}}
        request = {"commands": commands, "after": after, "apart": apart, "limit": limit, "inside": inside}
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


def _serve(request: dict[str, Any]) -> list[dict[str, Any]]:
    started, pids, running, answers = time.monotonic(), [], {}, {}
    after, commands = request["after"], request["commands"]
    while len(answers) < len(commands):
        elapsed = time.monotonic() - started
        if (number := len(pids)) < len(commands) and elapsed >= number * request["apart"]:
            files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
            pids.append(_fork(commands[number], files, request["inside"], first=number == 0))
            running[pids[number]] = (number, files)
        if after and elapsed > after["seconds"]:
            if pids[0] in running:
                os.kill(pids[0], getattr(signal, after["signal"]))
            after = None
        if elapsed > request["limit"]:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
        pid, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)
        if pid in running:
            number, files = running.pop(pid)
            out, err = (_content(file) for file in files)
            answers[number] = {"status": os.waitstatus_to_exitcode(status), "out": out, "err": err}
        elif pid == 0:
            time.sleep(0.003)
    return [answers[number] for number in sorted(answers)]


def _content(file: Any) -> str:
    with file:
        file.seek(0)
        return file.read()


def _fork(command: list[str], files: list[Any], inside: dict[str, Any], *, first: bool) -> int:
    """Start a command.

    Args:
        inside: what to arrange in its process; faults in the first alone.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.environ.update(inside["environment"], NORMLAB_PID=str(os.getpid()))
    for number, file in enumerate(files, start=1):
        os.dup2(file.fileno(), number)
    status = 70
    try:
        import train

        from normlab.config.command_line import guard
        from normlab.stopping.program import begin

        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
        begin("__main__")
        _arrange(inside, first)
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


def _arrange(inside: dict[str, Any], first: bool) -> None:
    if inside["witness"]:
        moments.witness(Path(inside["witness"]))
    if inside["count"]:
        moments.count_changes(Path(inside["count"]["under"]), Path(inside["count"]["note"]))
    if inside["at"] and first:
        moments.arrange(inside["at"])


if __name__ == "__main__":
    main()
