"""`train.py` inside the test process: starting a process would cost seconds per test."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

sys.path.insert(0, str(Path(__file__).parent))
from commands import Command, runs
from exactness import LONG, options
from zygote import Zygote

ROOT = Path(__file__).parents[1]
os.environ.setdefault("WANDB_MODE", "offline")
# tests run side by side, where the threads of several processes get in each other's way
os.environ.setdefault("OMP_NUM_THREADS", "1")


@dataclass
class Answer:
    """What a command answered."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def no_request_to_stop_is_left():
    """A launcher's job handles signals until its process ends, which here also runs later tests."""
    yield
    if (module := sys.modules.get("normlab.stopping.request")) is not None:
        module.stop_request().uninstall()
        module.stop_request.cache_clear()


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """Materialised data, shared by all tests of a session."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def train(tmp_path, cache, monkeypatch, capsys) -> Callable[..., Answer]:
    """`train("norm=layer", …)` is `python train.py norm=layer …` with its results under tmp_path."""
    from normlab.command_line.guard import guard

    spec = importlib.util.spec_from_file_location("train", ROOT / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def command(*arguments: str, output: Path = tmp_path / "outputs") -> Answer:
        GlobalHydra.instance().clear()
        own = [f"output={output}", f"cache={cache}"] if "--help" not in arguments else []
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments, *own])
        try:
            with guard():
                module.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return command


@pytest.fixture(scope="session")
def zygote():
    """Runs commands of `train.py` in forked processes, see `tests/zygote.py`."""
    started = Zygote()
    yield started
    started.close()


@pytest.fixture(scope="session")
def two_processes(cache, tmp_path_factory) -> Path:
    """The folder of a run of two processes that nothing interrupted."""
    output = tmp_path_factory.mktemp("two_processes")
    ended = Command(options("lstm", cache, output, *LONG, "trainer=ddp"), os.environ).wait()
    assert ended.status == 0, ended.err
    return runs(output)[0]
