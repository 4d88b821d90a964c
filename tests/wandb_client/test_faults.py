"""Whatever W&B does, training finishes as it would alone, one line says what happened, a later upload completes it."""

import threading
import time

import pytest
from test_online import mirrors, only
from wandb_server import Fault

from normlab.folder.jsonfile import read_json

pytestmark = pytest.mark.slow  # each starts a training or two

QUICK = "logger.wandb.timeout=3"  # seconds instead of half a minute


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("W&B")]


def offline(folder):
    return list(folder.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param(None, "can't be reached", id="refused"),
        pytest.param(Fault("/", status=503), "answers 503", id="500s", marks=pytest.mark.slow),
        pytest.param(Fault("/", seconds=20), "does not answer", id="silence", marks=pytest.mark.slow),
        pytest.param(Fault("/graphql", status=500), "500", id="graphql", marks=pytest.mark.slow),
    ],
)
def test_a_key_without_a_server_that_works_is_one_warning(fault, words, run, server, folder, sync):
    if fault is None:
        server.stop()
    else:
        server.faults.append(fault)
    ended = run(QUICK)
    assert ended.status == 0, ended.err
    (line,) = lines(ended.err)
    assert words in line
    assert "make sync" in line
    assert read_json(folder() / "status.json")["state"] == "finished"
    assert len(offline(folder())) == 1
    assert not list(folder().glob("wandb/run-*"))
    server.faults.clear()
    if fault is None:
        server.start()
    done = sync()
    assert done.status == 0, done.err
    mirrors(only(server), folder())


@pytest.mark.parametrize("key", ["1" * 40, pytest.param("short", marks=pytest.mark.slow)])
def test_a_wrong_key_is_one_line(key, run, folder):
    ended = run(QUICK, environment={"WANDB_API_KEY": key})
    assert ended.status == 0, ended.err
    (line,) = lines(ended.err)
    assert "wandb login" in line
    assert len(offline(folder())) == 1


def test_an_unknown_entity_is_one_line(run, folder):
    ended = run(QUICK, "logger.wandb.entity=nobody")
    assert ended.status == 0, ended.err
    (line,) = lines(ended.err)
    assert "logger.wandb.entity=nobody" in line
    assert len(offline(folder())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("where", ["/file_stream", "/graphql UpsertBucket", "/storage/"])
def test_errors_that_pass_lose_nothing(where, run, server, folder):
    server.fail(where, status=500, times=2)
    ended = run()
    assert ended.status == 0, ended.err
    assert lines(ended.err) == []
    mirrors(only(server), folder())
    assert "config.json" in only(server).files


@pytest.mark.slow
@pytest.mark.parametrize("fault", [{"status": 500}, {"status": None}, {"status": 403}, {"status": 500, "seconds": 30}])
def test_a_stream_that_stays_broken_is_completed_later(fault, run, server, folder, sync):
    server.fail("/file_stream", **fault)
    ended = run(QUICK)
    assert ended.status == 0, ended.err
    assert len(lines(ended.err)) == (0 if fault == {"status": 403} else 1)
    assert read_json(folder() / "status.json")["state"] == "finished"
    assert not only(server).complete
    server.faults.clear()
    done = sync()
    assert done.status == 0, done.out + done.err
    mirrors(only(server), folder())
    assert only(server).exit_code == 0


@pytest.mark.slow
def test_a_server_that_dies_mid_run(run, server, folder, sync):
    def die() -> None:
        deadline = time.monotonic() + 60
        while not server.state.runs and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        server.stop()

    striking = threading.Thread(target=die)
    striking.start()
    ended = run(QUICK)
    striking.join()
    assert ended.status == 0, ended.err
    (line,) = lines(ended.err)
    assert "make sync" in line
    assert read_json(folder() / "status.json")["state"] == "finished"
    server.start()
    done = sync()
    assert done.status == 0, done.out + done.err
    mirrors(only(server), folder())


@pytest.mark.slow
def test_a_lost_network_does_not_slow_training(run, server, tmp_path):
    assert run("seed=1", "logger=csv").status == 0
    server.fail("/file_stream", status=None)
    assert run("seed=2", QUICK).status == 0
    alone, broken = (next((tmp_path / "outputs" / "runs").glob(f"lstm-batch-word_stress-{seed}-*")) for seed in (1, 2))
    seconds = [read_json(folder / "summary.json")["train_seconds"] for folder in (alone, broken)]
    assert seconds[1] < seconds[0] + 2  # far less than a request that is waited for


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["logger.wandb.project=a/b"], "W&B does not allow / in a project's name"),
        (["logger.wandb.project=''"], "1 to 128 characters"),
        (["logger.wandb.tags=['']"], "1 to 64 characters"),
        (["logger.wandb.timeout=0"], "logger.wandb.timeout=0"),
        (["logger.wandb.mode=online"], "wandb login"),
    ],
)
def test_bad_options_are_one_line_before_training(options, words, run, server, tmp_path):
    ended = run(*options, environment={"WANDB_API_KEY": ""})
    assert ended.status == 2
    assert words in ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert not list((tmp_path / "outputs").glob("runs/*/summary.json"))
    assert not server.state.runs
