"""`train.py` in forked processes: torch is imported once, so that a trial costs its training and no start.

As a program it serves requests, one JSON line each; `Zygote` is its client. The serving process never trains, so its
children begin as a fresh process would.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

import moments
import separate
from commands import Ended
from normlab.host.process import process_name

ROOT = Path(__file__).parents[1]
STOPPING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


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
        outlet: str | None = None,
        folder: Path = ROOT,
        user: int | None = None,
        containers: bool = False,
    ) -> list[Ended]:
        """Run commands side by side until all have ended. A fault strikes the first of them.

        Args:
            at: {"step": n, "signal": name}: it sends itself that signal when it has done n steps; for other moments
                see `moments.arrange`.
            after: {"seconds": s, "signal": name}: it gets that signal, or several, after a time; {"seconds": s,
                "close": true}: its terminal is closed.
            apart: seconds between two starts.
            limit: seconds after which all are killed.
            witness: a folder where every computation is noted, see `moments.witness`.
            count: {"under": folder, "note": file}: see `moments.count_changes`.
            environment: of the commands, on top of the present one.
            outlet: where the first command's standard output goes: a `pipe` that nobody reads, a `terminal`, or a
                `full` disk.
            folder: where the commands are given.
            user: who gives them, of the group `GROUP`, which shares its files; None: the present one.
            containers: each command has process numbers of its own.
        """
        inside = {
            "at": at,
            "witness": witness and str(witness),
            "count": count,
            "environment": environment or {},
            "outlet": outlet,
            "folder": str(folder),
            "user": user,
            "containers": containers,
        }
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
    outlet = request["inside"]["outlet"]
    terminal = os.openpty() if outlet == "terminal" else None
    after, commands = request["after"], request["commands"]
    while len(answers) < len(commands):
        elapsed = time.monotonic() - started
        if (number := len(pids)) < len(commands) and elapsed >= number * request["apart"]:
            files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
            pids.append(_fork(commands[number], files, request["inside"], terminal, first=number == 0))
            running[pids[number]] = (number, files)
        if after and elapsed > after["seconds"]:
            if after.get("close"):
                _close(terminal)
                terminal = None
            elif pids[0] in running:
                moments.send(pids[0], after["signal"])
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
    _close(terminal)
    return [answers[number] for number in sorted(answers)]


def _close(descriptors: tuple[int, ...] | None) -> None:
    for descriptor in descriptors or ():
        os.close(descriptor)


def _content(file: Any) -> str:
    with file:
        file.seek(0)
        return file.read()


def _fork(
    command: list[str], files: list[Any], inside: dict[str, Any], terminal: tuple[int, int] | None, *, first: bool
) -> int:
    """Start a command.

    Args:
        inside: what to arrange in its process; faults in the first alone.
        terminal: both ends of one, which becomes that of the command.
    """
    # a signal waits until the child handles it: how a start takes one earlier is for tests of whole processes
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        return pid
    os.setsid()
    if inside["containers"]:
        separate.process_numbers()
    if inside["user"] is not None:
        separate.become(inside["user"])
    os.chdir(inside["folder"])
    os.environ.update(inside["environment"], NORMLAB_PID=process_name())
    for number, file in enumerate(files, start=1):
        os.dup2(file.fileno(), number)
    status = 70
    try:
        from normlab.stopping.program import begin

        signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job ignores
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
        if first:
            _direct(inside["outlet"], terminal)
        begin("__main__")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        import train

        from normlab.command_line.guard import guard

        _arrange(inside, first)
        sys.argv = ["train.py", *command]
        with guard():
            train.main()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # the program's own, which `begin` has set
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _direct(outlet: str | None, terminal: tuple[int, int] | None) -> None:
    """Where standard output goes, if not into a file."""
    if outlet == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif outlet == "pipe":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    elif terminal is not None:
        os.close(terminal[0])
        fcntl.ioctl(terminal[1], termios.TIOCSCTTY, 0)
        os.dup2(terminal[1], 1)
        os.close(terminal[1])


def _arrange(inside: dict[str, Any], first: bool) -> None:
    if inside["witness"]:
        moments.witness(Path(inside["witness"]))
    if inside["count"]:
        moments.count_changes(Path(inside["count"]["under"]), Path(inside["count"]["note"]))
    if inside["at"] and first:
        moments.arrange(inside["at"])


if __name__ == "__main__":
    main()
