"""Axes, lengths, leakage, the ceiling of learning rates, scales and synchronisation, as a user asks for them."""

import json
import math
from pathlib import Path

import pytest

from normlab.folder.jsonfile import read_json

COMMON = ("trainer.threads=1", "logger=none", "trainer.progress=false")


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


def measured(train, tmp_path, *choices):
    answer = train(*choices, *COMMON)
    assert answer.status == 0, answer.err
    folder = only_run(tmp_path / "outputs")
    file = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return read_json(folder / "summary.json"), rows


def test_axes(train, tmp_path):
    summary, _ = measured(train, tmp_path, "measure=axes", "norm=batch", "model=mlp", "measure.examples=16")
    assert summary["as_declared"] is True
    assert summary["over_batch_error"] < 0.01
    assert summary["moved_by_features"] == summary["eval/site/BTC/moved_by/B"] == 0.0
    assert summary["moved_by_examples"] > 0.1


LENGTHS = ("measure=lengths", "measure.lengths=[16,32]", "task=union", "task.max_length=16", "trainer.batches=2")


@pytest.mark.parametrize("model", ["lstm", "transformer"])
def test_lengths(model, train, tmp_path):
    choices = (*LENGTHS, f"model={model}", "model.width=16", "norm=layer", "measure.tokens=400", "test=true")
    summary, rows = measured(train, tmp_path, *choices)
    for split in ("validation", "test"):
        for length in (16, 32):
            assert 0 < summary[f"{split}/bits_per_character@{length}"] < 20
            assert 0 < summary[f"{split}/late_bits_per_character@{length}"] < 20
    positions = [row for row in rows if "position/bits_per_character" in row]
    assert [row["step"] for row in positions] == list(range(1, 33))
    assert any("validation/loss" in row for row in rows)
    assert ("drift" in summary) == ("state/rms" in positions[0]) == (model == "lstm")
    if model == "lstm":
        assert summary["drift"] == summary["drift@32"] > 0


@pytest.mark.slow
def test_the_trained_length_scores_what_training_validates(train, tmp_path):
    choices = ("model=lstm", "model.width=8", "norm=batch", "task.eval_batch_size=2000", "measure.tokens=null")
    quick = ("measure.lengths=[64]", "trainer.steps=2", "trainer.validations=1")
    summary, _ = measured(train, tmp_path, "measure=lengths", "task=union", *quick, *choices)
    here = summary["validation/bits_per_character@64"]
    assert here == pytest.approx(summary["validation/bits_per_character"], rel=1e-5)


def test_a_diverged_training_has_no_lengths(train, tmp_path):
    choices = ("model=lstm", "model.width=8", "norm=none", "optim=sgd", "optim.lr=3e38", "optim.warmup=0")
    summary, _ = measured(train, tmp_path, *LENGTHS, *choices, "trainer.log_every=1")
    assert summary["diverged"] is True
    assert summary["validation/bits_per_character@16"] is summary["drift"] is None


def test_leakage(train, tmp_path):
    choices = ("measure=leakage", "measure.steps=10", "model=mlp", "model.width=16", "norm=layer")
    summary, rows = measured(train, tmp_path, *choices)
    assert summary["leak/train_mode_accuracy"] == summary["leak/eval_mode_accuracy"]
    assert 0.1 <= summary["leak/chance"] < 0.2
    assert summary["diverged"] is False
    assert [row["step"] for row in rows] == list(range(1, 11))


def test_a_ceiling(train, tmp_path):
    ladder = ("measure.lowest=0.01", "measure.factor=100", "measure.rungs=3", "measure.steps=25", "measure.share=1")
    choices = ("measure=learning_rate_ceiling", "model=mlp", "optim=sgd", "norm=none", "model.width=64")
    summary, rows = measured(train, tmp_path, *choices, *ladder)
    assert summary["ceiling"] == pytest.approx(0.01)
    assert summary["log2_ceiling"] == pytest.approx(math.log2(0.01))
    assert summary["entropy"] == pytest.approx(math.log(10), abs=0.01)
    assert summary["ceiling_loss"] < summary["entropy"]
    assert summary["ceiling_censored"] is False
    assert [(row["step"], row["rung/loss"] is None) for row in rows] == [(2, True), (1, True), (0, False)]


def test_no_rung_that_works_is_recorded(train, tmp_path):
    ladder = ("measure.lowest=1e20", "measure.rungs=2", "measure.steps=5")
    choices = ("measure=learning_rate_ceiling", "model=mlp", "optim=sgd", "norm=none", "model.width=16")
    summary, _ = measured(train, tmp_path, *choices, *ladder)
    assert summary["ceiling"] is summary["rung"] is None
    assert summary["tried"] == 2


def test_scale_invariance(train, tmp_path):
    choices = ("measure=scale_invariance", "model=cnn", "model.width=8", "norm=batch", "measure.examples=8")
    summary, _ = measured(train, tmp_path, *choices)
    assert summary["function_change"] < 1e-3
    assert summary["gradient_ratio"] == pytest.approx(0.1, rel=1e-2)


@pytest.mark.slow
def test_synchronisation_of_a_recurrence(train, tmp_path):
    choices = ("measure=sync_equivalence", "model=lstm", "model.width=8", "norm=batch", "measure.examples=8")
    summary, _ = measured(train, tmp_path, *choices)
    assert summary["gradient_difference"] < 1e-10 < 1e-3 < summary["gradient_difference_unsynced"]
