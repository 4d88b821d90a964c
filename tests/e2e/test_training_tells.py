"""What training reports besides its score, if the user requests it."""

import json
from pathlib import Path

import pytest

from exactness import differences, options, result
from normlab.folder.jsonfile import read_json

SHORT = ("trainer.threads=1", "trainer.batches=4", "trainer.epochs=3", "task.batch_size=16", "logger=none")
LSTM = ("model=lstm", "model.width=16", "task.bucket=false")


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_scores_stand_beside_their_cost(train, tmp_path):
    """Each validation has its step, examples and training seconds; the areas are those of its curve."""
    answer = train("model=cnn", "model.width=8", "task.classes_per_batch=2", "trainer.validations=2", *SHORT)
    assert answer.status == 0, answer.err
    folder = only_run(tmp_path / "outputs")
    found, summary = [row for row in rows(folder) if "validation/loss" in row], read_json(folder / "summary.json")
    assert [row["step"] for row in found] == [2, 4, 6, 8, 10, 12]
    assert all(row["train/examples"] >= 16 * row["step"] for row in found)
    seconds = [row["train/seconds"] for row in found]
    assert seconds[0] > 0
    assert seconds == sorted(set(seconds))
    assert found[-1]["train/examples"] == summary["examples"]
    best = next(row for row in found if row["step"] == summary["best_step"])
    assert best["train/examples"] == summary["best_examples"]
    assert best["train/seconds"] == pytest.approx(summary["best_seconds"])
    assert best["validation/accuracy"] == summary["validation/accuracy"]
    for name in ("accuracy", "loss"):
        values = [row[f"validation/{name}"] for row in found]
        area = (sum(values) - (values[0] + values[-1]) / 2) / 5  # six validations, evenly spaced
        assert summary[f"area/{name}"] == pytest.approx(area)
    assert not any(name.startswith(("inside/", "gap/", "test/", "last_test/")) for name in summary)


def test_a_single_validation_has_no_area(train, tmp_path):
    answer = train("model=cnn", "model.width=8", *SHORT, "trainer.steps=4", "trainer.epochs=1")
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["area/accuracy"] is summary["area/loss"] is None


@pytest.mark.slow
def test_both_checkpoints_are_tested(train, tmp_path):
    """The learning rate rises until the last weights are the worse ones."""
    answer = train(
        *(
            "model=mlp",
            "norm=none",
            "optim=sgd",
            "optim.lr=3",
            "optim.warmup=0.9",
            "optim.clip=1",
            "test=true",
            "task.eval_batch_size=50",
        ),
        *SHORT,
    )
    assert answer.status == 0, answer.err
    folder = only_run(tmp_path / "outputs")
    summary = read_json(folder / "summary.json")
    assert summary["best_step"] < summary["steps"]
    assert summary["last_test/loss"] > summary["test/loss"]
    assert [name for row in rows(folder) for name in row if name.endswith("test/loss")] == [
        "last_test/loss",
        "test/loss",
    ]
    for ckpt, name in (("best", "test"), ("last", "last_test")):
        output = tmp_path / ckpt
        path = folder / "checkpoints" / f"{ckpt}.ckpt"
        train("measure=evaluate", f"ckpt={path}", "logger=none", "trainer.batches=4", output=output)
        evaluated = read_json(only_run(output) / "summary.json")
        for metric in ("loss", "accuracy", "f1"):
            assert evaluated[f"test/{metric}"] == pytest.approx(summary[f"{name}/{metric}"], rel=1e-6)


def test_where_the_last_is_the_best_it_is_tested_once(train, tmp_path):
    answer = train("model=mlp", "test=true", *SHORT, "trainer.steps=4", "trainer.epochs=1")
    assert answer.status == 0, answer.err
    folder = only_run(tmp_path / "outputs")
    summary = read_json(folder / "summary.json")
    assert summary["best_step"] == summary["steps"]
    assert summary["test/loss"] == summary["last_test/loss"] > 0
    assert sum("test/loss" in row for row in rows(folder)) == 1


def test_a_diverged_run_has_no_area_no_gap_and_no_last_test(train, tmp_path):
    answer = train(
        *("model=cnn", "model.width=8", "norm=none", "optim=sgd", "optim.lr=1e20", "measure.inside=true", "test=true"),
        *SHORT,
    )
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["diverged"] is True
    assert summary["area/accuracy"] is summary["area/loss"] is None
    assert "last_test/accuracy" not in summary
    assert "gap/accuracy" not in summary


@pytest.mark.parametrize("norm", ["batch", pytest.param("layer", marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", [("model=cnn", "model.width=8"), LSTM])
def test_looking_inside_changes_nothing_else(norm, model, train, tmp_path):
    found = {}
    for inside in ("true", "false"):
        answer = train(*model, f"norm={norm}", *SHORT, f"measure.inside={inside}", output=tmp_path / inside)
        assert answer.status == 0, answer.err
        folder = only_run(tmp_path / inside)
        found[inside] = folder, read_json(folder / "summary.json")
    (looked, summary), (plain, without) = found["true"], found["false"]
    for name, value in without.items():
        assert summary[name] == value or "seconds" in name or "memory" in name, name
    kept = [
        [{k: v for k, v in row.items() if "time" not in k and "seconds" not in k} for row in rows(folder)]
        for folder in (looked, plain)
    ]
    assert [row for row in kept[0] if "inside/gradient" not in row] == kept[1]
    looks = [row for row in kept[0] if "inside/gradient" in row]
    assert [row["step"] for row in looks] == [4, 8, 12]
    last = {name: value for name, value in looks[-1].items() if name != "step"}
    assert last == {name: value for name, value in summary.items() if name.startswith("inside/")}
    assert summary["inside/gradient"] > 0
    assert ("inside/tid_mean" in summary) == (norm == "batch")
    assert (summary["gap/loss"] == 0) == (norm == "layer")
    assert summary["gap/accuracy"] == pytest.approx(summary["gap/train_accuracy"] - summary["gap/eval_accuracy"])


def test_a_language_model_is_looked_into(train, tmp_path):
    options = ("model=transformer", "norm=batch", "model.width=32", "model.layers=1", "task.max_length=32")
    answer = train(*options, "measure.inside=true", "task.eval_batch_size=8", *SHORT, "trainer.epochs=1")
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["gap/bits_per_character"] != 0
    assert summary["inside/tid_mean_iid"] > 0


@pytest.mark.slow
def test_an_interrupted_run_sees_the_same(zygote, cache, tmp_path):
    """Batches of two classes, looked into; killed twice, and resumed."""
    more = ("trainer.save_steps=1", "measure.inside=true", "task.bucket=false", "task.classes_per_batch=2")
    found = []
    for name, steps in (("whole", ()), ("killed", (7, 14))):
        command = options("lstm", cache, tmp_path / name, *more)
        for step in steps:
            (ended,) = zygote(command, at={"step": step, "signal": "SIGKILL"})
            assert ended.status == -9, ended.err
        (ended,) = zygote(command)
        assert ended.status == 0, ended.err
        found.append(result(only_run(tmp_path / name)))
    assert differences(*found) == []
    assert found[0]["summary"]["inside/gain_drift"] > 0
    assert "gap/loss" in found[0]["summary"]
