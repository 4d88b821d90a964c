"""Whatever asks a run to stop, how often and when: a plain exit status, no traceback, the same result afterwards."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from commands import Command, runs
from exactness import LONG, differences, options, result
from normlab.folder.jsonfile import read_json
from normlab.folder.resume_points import newest_intact
from normlab.runs.owner import read_owner

STATUSES = {signal.SIGHUP: 129, signal.SIGINT: 130, signal.SIGTERM: 143}
NAMES = [number.name for number in STATUSES]


@pytest.fixture(scope="module")
def uninterrupted(zygote, cache, tmp_path_factory):
    output = tmp_path_factory.mktemp("lstm")
    (ended,) = zygote(options("lstm", cache, output))
    assert ended.status == 0, ended.err
    return result(runs(output)[0])


def assert_plain(ended):
    assert ended.status in (0, *STATUSES.values()), ended.out + ended.err
    assert "Traceback" not in ended.out + ended.err
    assert "Exception ignored" not in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_signals_at_random_moments_change_no_result(seed, zygote, cache, tmp_path, uninterrupted):
    rng = random.Random(seed)
    command = [*options("lstm", cache, tmp_path), "test=true"]
    for _ in range(3):
        names = " ".join(rng.choice(NAMES) for _ in range(rng.choice((1, 2, 3, 30))))
        if rng.random() < 0.5:
            fault = {"after": {"signal": names, "seconds": rng.uniform(0, 2)}}
        else:
            fault = {"at": {"signal": names, "change": rng.randint(1, 60), "under": str(tmp_path)}}
        (ended,) = zygote(command, **fault)
        assert_plain(ended)
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    found = result(runs(tmp_path)[0])
    expected = {name: value for name, value in uninterrupted.items() if name not in ("rows", "csv", "summary")}
    assert not [name for name in differences(found, {**found, **expected}) if name in expected]


def test_a_signal_after_the_last_step_finishes_the_run_and_ends(zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path)
    (ended,) = zygote(command, at={"step": uninterrupted["summary"]["steps"], "signal": "SIGINT SIGTERM"})
    assert ended.status == 130, ended.err
    assert differences(result(runs(tmp_path)[0]), uninterrupted) == []
    (again,) = zygote(command)
    assert "had already finished" in again.out


def test_a_closed_terminal_saves(zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path)
    (ended,) = zygote(command, at={"step": 7, "signal": "SIGHUP"})
    assert ended.status == 129, ended.err
    assert "The same command resumes from step 7" in ended.err
    (ended,) = zygote([*command, "trainer.progress=true"], outlet="terminal", after={"close": True, "seconds": 0.3})
    assert_plain(ended)
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert differences(result(runs(tmp_path)[0]), uninterrupted) == []


@pytest.mark.parametrize("outlet", ["pipe", "full"])
def test_output_that_fails_ends_no_run_and_keeps_none_from_saving(outlet, zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path)
    printing = [*command, "trainer.progress=true"]
    (ended,) = zygote(printing, outlet=outlet, at={"step": 7, "signal": "SIGINT"})
    assert ended.status == 130, ended.err
    assert newest_intact(runs(tmp_path)[0]).step == 7
    (ended,) = zygote(printing, outlet=outlet)
    assert ended.status == 0, ended.err
    assert differences(result(runs(tmp_path)[0]), uninterrupted) == []


def test_what_is_promised_is_there(zygote, cache, tmp_path):
    """Stopped before it trains, a run resumes from nowhere."""
    command = options("lstm", cache, tmp_path)
    (ended,) = zygote(command, at={"signal": "SIGTERM", "change": 8, "under": str(tmp_path)})
    assert ended.status == 143
    assert "resumes from step" not in ended.err
    assert newest_intact(runs(tmp_path)[0]) is None


def test_a_run_stopped_as_it_begins_says_so_and_has_no_owner(zygote, cache, tmp_path):
    """Between its claim and its training there is no moment at which a signal leaves it as running."""
    for change in range(1, 12, 2):
        output = tmp_path / str(change)
        (ended,) = zygote(
            options("lstm", cache, output), at={"signal": "SIGTERM", "change": change, "under": str(output)}
        )
        assert ended.status == 143, ended.err
        for folder in runs(output):
            assert not (folder / "owner").exists(), change
            assert read_json(folder / "status.json")["state"] == "stopped", change


def test_two_multiruns_share_a_run(zygote, cache, tmp_path):
    """The second waits for what the first does, and both end with a result."""
    command = ["-m", *options("lstm", cache, tmp_path), "seed=0,1"]
    for ended in zygote(command, command, apart=0.3):
        assert ended.status == 0, ended.out + ended.err
    assert [read_json(folder / "status.json")["state"] for folder in runs(tmp_path)] == ["finished"] * 2


def catches(pid: int, number: signal.Signals) -> bool:
    """Has the process set its own handler for the signal?"""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_early_signals_end_a_command_quietly(seed, cache, tmp_path):
    """While it imports, composes and prepares data; before that Python itself starts, which no program can cover."""
    rng = random.Random(seed)
    endless = ("trainer.epochs=2000", "trainer.save_steps=5")  # LONG may end within the three seconds
    command = Command(options("lstm", cache, tmp_path, *endless), os.environ)
    while not catches(command.process.pid, signal.SIGTERM):
        time.sleep(0.01)
    time.sleep(rng.uniform(0, 3))
    number = rng.choice(list(STATUSES))
    for _ in range(rng.randint(1, 3)):
        os.killpg(command.process.pid, number)
    ended = command.wait()
    assert ended.status == STATUSES[number], ended.err
    assert_plain(ended)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_joblib_and_ctrl_c_in_a_terminal(seed, cache, tmp_path):
    """Which sends it to every process, workers that still import among them."""
    rng = random.Random(seed)
    arguments = ["-m", "launcher=joblib", *options("lstm", cache, tmp_path, *LONG), "seed=0,1,2"]
    command = Command(arguments, os.environ)
    time.sleep(rng.uniform(2, 12))
    for _ in range(rng.choice((1, 2, 30))):
        os.killpg(command.process.pid, signal.SIGINT)
    ended = command.wait()
    assert_plain(ended)
    assert not any((folder / "owner").exists() for folder in runs(tmp_path))


@pytest.mark.slow
def test_a_killed_worker_costs_no_run(cache, tmp_path):
    arguments = options("lstm", cache, tmp_path, *LONG)
    command = Command(["-m", "launcher=joblib", "hydra.launcher.n_jobs=2", *arguments, "seed=0,1,2"], os.environ)
    command.until(lambda: any((folder / "progress.json").exists() for folder in runs(tmp_path)), limit=180)
    os.kill(owners(tmp_path)[0], signal.SIGKILL)
    ended = command.wait()
    assert ended.status == 0, ended.out + ended.err
    assert "one at a time" in ended.out
    assert "3 finished" in ended.out


def owners(output: Path) -> list[int]:
    found = [read_owner(folder) for folder in runs(output)]
    return [owner.pid for owner in found if owner is not None]
