"""A W&B server for each test, and commands of `train.py` whose real W&B client talks to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from wandb_server import WandbServer

from commands import ROOT, Ended

sys.path.insert(0, str(ROOT / "scripts" / "wandb"))
TINY = (
    "model=lstm",
    "model.width=16",
    "norm=batch",
    "trainer.batches=5",
    "trainer.epochs=2",
    "trainer.validations=2",
    "trainer.log_every=2",
    "trainer.threads=1",
    "trainer.progress=false",
    "task.batch_size=16",
    "task.eval_batch_size=50",
    "logger=wandb",
)


@pytest.fixture
def server():
    with WandbServer() as started:
        yield started
    assert started.state.unknown == []


@pytest.fixture
def here(server, tmp_path) -> dict[str, str]:
    """The environment of a client of `server`, which finds nothing of yours."""
    own = {name: str(tmp_path / name) for name in ("NETRC", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR")}
    return {**server.environment, **own}


@pytest.fixture
def run(zygote, cache, tmp_path, here):
    """`run("test=true", …)` is a tiny `python train.py …`; for its keywords see `Zygote`."""

    def command(*options: str, environment: dict[str, str] | None = None, **more) -> Ended:
        arguments = [*TINY, f"cache={cache}", f"output={tmp_path / 'outputs'}", *options]
        (ended,) = zygote(arguments, environment={**here, **(environment or {})}, **more)
        return ended

    return command


@pytest.fixture
def folder(tmp_path):
    """The only run's folder, once there is one."""

    def found() -> Path:
        (path,) = (tmp_path / "outputs" / "runs").iterdir()
        return path

    return found


@pytest.fixture
def normlab(here):
    """`normlab("judge", …)` is that command in a process of its own."""

    def command(*arguments: str, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "normlab", *arguments],
            cwd=ROOT,
            env={**os.environ, **here, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return command


@pytest.fixture
def sync(normlab, tmp_path):
    """`sync()` is `make sync`."""

    def command(**environment: str) -> Ended:
        return normlab("sync", "--runs", str(tmp_path / "outputs"), **{"WANDB_MODE": "offline", **environment})

    return command
