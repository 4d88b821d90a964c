"""A killed run, resumed, gives the same bits as one that was never interrupted."""

from pathlib import Path

import pytest

from exactness import KINDS, differences, options, result
from normlab.folder.jsonfile import read_json
from normlab.folder.resume_points import list_points, newest_intact


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


@pytest.fixture(scope="module")
def uninterrupted(zygote, cache, tmp_path_factory):
    """The result of each kind of run, once."""
    results = {}
    for kind in KINDS:
        output = tmp_path_factory.mktemp(kind)
        (ended,) = zygote(options(kind, cache, output))
        assert ended.status == 0, ended.err
        results[kind] = result(only_run(output))
    return results


# the last step of an epoch, the steps around it and around a validation, the last of all, twice in one epoch
SOME = (1, 2, 3, 4, 5, 6, 10, 11, 13, 14, 15)


@pytest.mark.parametrize(
    ("kind", "save", "steps"),
    [
        pytest.param("lstm", 1, SOME, marks=pytest.mark.slow),
        pytest.param("cnn", 2, (5, 8, 15), marks=pytest.mark.slow),
        ("stopping", 1, (5, 7)),
    ],
)
def test_killed_at_many_steps_and_resumed(kind, save, steps, zygote, cache, tmp_path, uninterrupted):
    """One run, killed at one step after the other."""
    command = options(kind, cache, tmp_path, f"trainer.save_steps={save}")
    for step in steps:
        (ended,) = zygote(command, at={"step": step, "signal": "SIGKILL"})
        assert ended.status == -9, ended.err
        point, expected = newest_intact(only_run(tmp_path)), (step - 1) // save * save
        assert (point.step if point else 0) == expected
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert differences(result(only_run(tmp_path)), uninterrupted[kind]) == []
    folder = only_run(tmp_path)
    assert not list((folder / "checkpoints").glob("resume-*"))
    assert list_points(folder) == []


@pytest.mark.parametrize(("name", "status", "word"), [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 143, "SIGTERM")])
def test_a_signal_saves_says_how_to_go_on_and_ends(name, status, word, zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path)
    (ended,) = zygote(command, at={"step": 7, "signal": name})
    assert ended.status == status, ended.err
    assert word in ended.err
    assert "python train.py model=lstm" in ended.err
    folder = only_run(tmp_path)
    stopped = read_json(folder / "status.json")
    assert stopped["state"] == "stopped"
    assert stopped["cause"] == f"stopped by {word} after step 7, which is saved"
    assert newest_intact(folder).step == 7
    assert not (folder / "owner").exists()
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert differences(result(folder), uninterrupted["lstm"]) == []


def test_a_damaged_resume_point_costs_the_time_since_the_one_before(zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path, "trainer.save_steps=2")
    zygote(command, at={"step": 9, "signal": "SIGKILL"})
    folder = only_run(tmp_path)
    newest, before = list_points(folder)
    damaged = folder / "checkpoints" / newest.file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    assert newest_intact(folder) == before
    (ended,) = zygote([*command, "trainer.progress=true"])
    assert ended.status == 0, ended.err
    assert f"resumed after step {before.step}" in ended.out
    assert differences(result(folder), uninterrupted["lstm"]) == []


def test_a_run_resumed_with_another_kernel_says_so(zygote, cache, tmp_path):
    command = options("lstm", cache, tmp_path, "trainer.save_steps=1")
    zygote(command, at={"step": 9, "signal": "SIGKILL"})
    (ended,) = zygote(command, environment={"CXX": "no-such-compiler"})
    assert ended.status == 0, ended.err
    folder = only_run(tmp_path)
    summary = read_json(folder / "summary.json")
    assert summary["kernel"] == "plain"
    assert summary["resumed"] == "from step 8: kernel fused → plain"
    assert "resumed under different conditions (kernel fused → plain)" in ended.err


def test_saving_by_wall_clock(zygote, cache, tmp_path):
    """At a moment's interval every step is saved; at an hour's none is."""
    for minutes, step in ((1e-6, 6), (60, 0)):
        output = tmp_path / str(minutes)
        command = options("lstm", cache, output, f"trainer.save_minutes={minutes}")
        zygote(command, at={"step": 7, "signal": "SIGKILL"})
        point = newest_intact(only_run(output))
        assert (point.step if point else 0) == step


@pytest.mark.parametrize(
    ("kind", "steps"), [pytest.param("stopping", (4, 6, 7), marks=pytest.mark.slow), ("cnn", (5, 9, 14))]
)
def test_a_moved_folder_resumes_to_the_same_result(kind, steps, zygote, cache, tmp_path, uninterrupted):
    """Every part of a run is done under another path; the first validation may be the best."""
    output = tmp_path / "first"
    for number, step in enumerate(steps):
        (ended,) = zygote(options(kind, cache, output, "trainer.save_steps=1"), at={"step": step, "signal": "SIGKILL"})
        assert ended.status == -9, ended.err
        output = output.rename(tmp_path / f"moved-{number}" if number else tmp_path / "elsewhere")
    (ended,) = zygote(options(kind, cache, output, "trainer.save_steps=1"))
    assert ended.status == 0, ended.err
    assert differences(result(only_run(output)), uninterrupted[kind]) == []


def test_a_damaged_best_checkpoint_is_made_again(zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path, "trainer.save_steps=2")
    zygote(command, at={"step": 9, "signal": "SIGKILL"})
    folder = only_run(tmp_path)
    best = folder / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:-1])
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert differences(result(folder), uninterrupted["lstm"]) == []
