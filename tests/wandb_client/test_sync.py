"""`make sync` uploads everything to the server once, whatever happened before."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_online import mirrors, only

from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.run_folder import RunFolder

OFFLINE = {"WANDB_MODE": "offline"}


def fragments(folder):
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.slow
def test_offline_runs_are_uploaded_once(run, server, folder, sync):
    assert run(environment=OFFLINE).status == 0
    assert not server.state.runs
    assert RunFolder(folder()).read_address() == "offline"
    done = sync()
    assert done.status == 0, done.err
    assert done.out.startswith("uploaded")
    assert RunFolder(folder()).read_address().endswith(f"/runs/{only(server).name}")
    mirrors(only(server), folder())
    assert only(server).group.startswith("batch-lstm-word_stress-")
    assert only(server).values["norm"] == "batch"
    assert "config.json" in only(server).files
    requests = len(server.requests)
    again = sync()
    assert again.status == 0
    assert "nothing to upload" in again.out
    assert len(server.requests) == requests
    mirrors(only(server), folder())


@pytest.mark.slow
def test_of_two_at_once_the_second_waits(run, server, folder, sync):
    assert run(environment=OFFLINE).status == 0
    with ThreadPoolExecutor() as pool:
        both = sorted(pool.map(lambda _: sync(), range(2)), key=lambda done: "nothing to upload" in done.out)
    assert [done.status for done in both] == [0, 0]
    assert both[0].out.startswith("uploaded")
    assert "nothing to upload" in both[1].out
    mirrors(only(server), folder())


@pytest.mark.slow
def test_a_killed_and_resumed_offline_run_is_one_run(run, server, folder, sync):
    assert run("trainer.save_steps=1", at={"step": 6, "signal": "SIGKILL"}, environment=OFFLINE).status == -9
    assert run("trainer.save_steps=1", environment=OFFLINE).status == 0
    assert len(fragments(folder())) == 1
    assert sync().status == 0
    mirrors(only(server), folder())
    assert only(server).exit_code == 0


@pytest.mark.slow
def test_begun_online_and_finished_offline_is_one_run(run, server, folder, sync):
    ended = run("trainer.save_steps=1", at={"step": 6, "signal": "SIGTERM"})
    assert ended.status == 143
    before = len(only(server).history)
    assert before > 0
    assert run("trainer.save_steps=1", environment=OFFLINE).status == 0
    assert len(only(server).history) == before
    done = sync()
    assert done.out.startswith("completed"), done.out + done.err
    mirrors(only(server), folder())


@pytest.mark.slow
def test_a_run_that_another_machine_has_uploaded_is_not_repeated(run, server, folder, sync):
    assert run(environment=OFFLINE).status == 0
    assert sync().status == 0
    for mark in folder().glob("wandb/*/*.synced"):
        mark.unlink()
    done = sync()
    assert done.out.startswith("already complete on W&B"), done.out
    mirrors(only(server), folder())


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_a_half_written_file_of_a_finished_run_is_completed_from_its_record(share, run, server, folder, sync):
    assert run(environment=OFFLINE).status == 0
    (file,) = fragments(folder())
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    done = sync()
    assert done.status == 0, done.out + done.err
    mirrors(only(server), folder())
    assert only(server).exit_code == 0


@pytest.mark.slow
def test_a_half_written_run_that_has_not_finished_is_one_clear_line(run, server, folder, sync):
    assert run("trainer.save_steps=1", at={"step": 6, "signal": "SIGKILL"}, environment=OFFLINE).status == -9
    done = sync()
    assert done.status == 1
    first, _ = done.out.splitlines()
    assert "incomplete" in first
    assert "command again" in first
    assert run("trainer.save_steps=1", environment=OFFLINE).status == 0
    assert sync().status == 0
    mirrors(only(server), folder())


@pytest.mark.slow
def test_one_bad_run_does_not_stop_the_others(run, server, folder, sync, tmp_path):
    assert run(environment=OFFLINE).status == 0
    good = folder()
    bad = good.with_name("lstm-batch-word_stress-9-0000000000")
    shutil.copytree(good, bad)
    (renamed,) = bad.glob("wandb/offline-run-*")
    renamed = renamed.rename(renamed.with_name("offline-run-20260101_000000-bad-1"))
    (file,) = renamed.glob("*.wandb")
    file.rename(renamed / "run-bad-1.wandb").write_bytes(b"")
    write_json(bad / "config.json", {"logger": read_json(good / "config.json")["logger"]})
    done = sync()
    assert done.status == 1
    assert "1 not uploaded" in done.out
    assert "1 uploaded" in done.out
    mirrors(server.state.runs[f"{good.name}-1"], good)


def test_nothing_to_upload(sync):
    done = sync()
    assert (done.status, done.err) == (0, "")
    assert "nothing to upload" in done.out


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"WANDB_API_KEY": ""}, "wandb login"),
        ({"WANDB_API_KEY": "2" * 40}, "API key is refused"),
        ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, "can't be reached"),
    ],
)
@pytest.mark.slow
def test_without_access_it_says_so_in_one_line(environment, words, run, sync):
    assert run(environment=OFFLINE).status == 0
    done = sync(**environment)
    assert done.status == 2
    assert words in done.err
    assert len(done.err.strip().splitlines()) == 1
