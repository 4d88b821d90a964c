"""Two processes that share every batch train the same network as one process with the whole batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from normlab.folder.example_scores import read_example_scores
from normlab.folder.jsonfile import read_json

ROOT = Path(__file__).parents[2]
COMMON = (
    # AdamW would blow up gradients that are 0 but for rounding, such as those of a bias before batch norm
    "optim=sgd",
    "trainer.precision=64-true",
    "trainer.steps=4",
    "trainer.batches=4",
    "trainer.log_every=1",
    "trainer.threads=1",
    "task.batch_size=16",
    "task.eval_batch_size=50",
    "logger=none",
    "test=true",
)
BATCH = ("norm=batch", "norm.sync=true")
# variable lengths, masks and per-step statistics; images; the fused recurrence
MODELS = {
    "lstm": ("model=lstm", "model.width=16", *BATCH),
    "cnn": ("model=cnn", "model.width=8", *BATCH),
    "fused": ("model=lstm", "model.width=16", "norm=layer", "model.kernel=fused"),
}


def folder(output: Path) -> Path:
    (found,) = (output / "runs").iterdir()
    return found


def weights(output: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder(output) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def summary(output: Path) -> dict:
    return read_json(folder(output) / "summary.json")


def run(output: Path, cache: Path, *options: str) -> None:
    command = [sys.executable, "train.py", *COMMON, *options, f"output={output}", f"cache={cache}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_two_processes_equal_one(model, tmp_path, cache, train):
    run(tmp_path / "two", cache, *MODELS[model], "trainer=ddp")
    answer = train(*COMMON, *MODELS[model], output=tmp_path / "one")
    assert answer.status == 0, answer.err
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-9, atol=1e-11, msg=name)
    for name in ("validation/accuracy", "validation/loss", "validation/f1", "examples"):
        assert summary(tmp_path / "two")[name] == pytest.approx(summary(tmp_path / "one")[name], rel=1e-6), name
    one, two = (read_example_scores(folder(tmp_path / name) / "example_scores.json") for name in ("one", "two"))
    assert one == two
    assert one["examples"] > 100
    if model != "fused":
        assert summary(tmp_path / "two")["normalisation_batch_size"] == 16


@pytest.mark.slow
def test_without_synchronisation_a_process_pools_its_own_share(tmp_path, cache, train):
    alone = ("model=cnn", "model.width=8", "norm=batch")
    run(tmp_path / "two", cache, *alone, "trainer=ddp")
    train(*COMMON, *alone, output=tmp_path / "one")
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert any(not torch.allclose(two[name], value) for name, value in one.items())
    assert summary(tmp_path / "two")["normalisation_batch_size"] == 8
