"""A killed run, resumed, gives the same bits as one that was never interrupted."""

import json
from pathlib import Path

import pytest
import torch

from normlab.jsonfile import read_json
from normlab.measures.resume_points import list_points, newest_intact

# three epochs of five steps, two validations each; every kind of state that a step depends on
TINY = (
    "trainer.batches=5",
    "trainer.epochs=3",
    "trainer.validations=2",
    "trainer.log_every=2",
    "trainer.threads=1",
    "trainer.progress=false",
    "task.batch_size=16",
    "task.eval_batch_size=50",
    "logger=csv",
)
KINDS = {
    "lstm": ("model=lstm", "model.width=16", "norm=batch", "model.dropout=0.3", "model.state_noise=0.1"),
    "cnn": ("model=cnn", "model.width=8", "norm=batch", "norm.evaluation=precise", "optim=sgd", "optim.lr=0.05"),
    "stopping": ("model=lstm", "model.width=16", "norm=layer", "trainer.patience=3", "optim.lr=1e-9"),
}


def options(kind: str, cache: Path, output: Path, *more: str) -> list[str]:
    return [*KINDS[kind], *TINY, f"cache={cache}", f"output={output}", *more]


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


def result(folder: Path) -> dict:
    """All of a run that must not depend on interruptions: weights, logged values, summary."""
    timeless = ("time", "seconds", "memory")

    def kept(values):
        return {k: v for k, v in values.items() if not any(word in k for word in timeless)}

    rows = [kept(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    csv = [line.split(",") for line in (folder / "csv" / "metrics.csv").read_text().splitlines()]
    columns = [i for i, name in enumerate(csv[0]) if "seconds" not in name]
    weights = {}
    for name in ("best", "last"):
        checkpoint = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
        states = checkpoint["optimizer_states"][0]["state"]
        weights |= {f"{name}.{k}": v for k, v in checkpoint["state_dict"].items()}
        weights |= {f"{name}.{i}.{k}": torch.as_tensor(v) for i, s in states.items() for k, v in s.items()}
    return {
        "rows": rows,
        "csv": [[row[i] for i in columns] for row in csv],
        "summary": kept(read_json(folder / "summary.json")),
        "weights": {k: v.clone() for k, v in weights.items()},
    }


def assert_same(found: dict, expected: dict) -> None:
    assert found["rows"] == expected["rows"]
    assert found["csv"] == expected["csv"]
    assert found["summary"] == expected["summary"]
    assert found["weights"].keys() == expected["weights"].keys()
    for name, value in expected["weights"].items():
        assert torch.equal(found["weights"][name], value), name


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
    ("kind", "save", "steps"), [("lstm", 1, SOME), ("cnn", 2, (5, 8, 9, 10, 15)), ("stopping", 1, (5, 7))]
)
def test_killed_at_many_steps_and_resumed(kind, save, steps, zygote, cache, tmp_path, uninterrupted):
    """One run, killed at one step after the other."""
    command = options(kind, cache, tmp_path, f"trainer.save_steps={save}")
    for step in steps:
        (ended,) = zygote(command, at_step={"step": step, "signal": "SIGKILL"})
        assert ended.status == -9, ended.err
        point, expected = newest_intact(only_run(tmp_path)), (step - 1) // save * save
        assert (point.step if point else 0) == expected
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert_same(result(only_run(tmp_path)), uninterrupted[kind])
    folder = only_run(tmp_path)
    assert not list((folder / "checkpoints").glob("resume-*"))
    assert list_points(folder) == []


@pytest.mark.parametrize(("name", "status", "word"), [("SIGINT", 130, "Ctrl-C"), ("SIGTERM", 143, "SIGTERM")])
def test_a_signal_saves_says_how_to_go_on_and_ends(name, status, word, zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path)
    (ended,) = zygote(command, at_step={"step": 7, "signal": name})
    assert ended.status == status, ended.err
    assert word in ended.err
    assert "python train.py model=lstm" in ended.err
    folder = only_run(tmp_path)
    stopped = read_json(folder / "status.json")
    assert stopped["state"] == "stopped"
    assert stopped["cause"] == f"stopped by {word} after step 7, where it was saved"
    assert newest_intact(folder).step == 7
    assert not (folder / "owner").exists()
    (ended,) = zygote(command)
    assert ended.status == 0, ended.err
    assert_same(result(folder), uninterrupted["lstm"])


def test_a_damaged_resume_point_costs_the_time_since_the_one_before(zygote, cache, tmp_path, uninterrupted):
    command = options("lstm", cache, tmp_path, "trainer.save_steps=2")
    zygote(command, at_step={"step": 9, "signal": "SIGKILL"})
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
    assert_same(result(folder), uninterrupted["lstm"])
