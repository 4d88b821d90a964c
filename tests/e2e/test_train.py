"""`python train.py` as a user runs it: as a command for the three models, in-process for everything else."""

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import normlab
from normlab.folder.jsonfile import read_json

ROOT = Path(__file__).parents[2]
SHORT = ("trainer.steps=3", "trainer.batches=3", "trainer.log_every=1", "trainer.threads=1", "task.batch_size=16")
TINY = {
    "cnn": ("model.width=8",),
    "lstm": ("model.width=16",),
    "transformer": ("model.width=32", "model.layers=1", "task.max_length=32", "task.eval_batch_size=8"),
}


def short(model: str, *more: str) -> list[str]:
    return [f"model={model}", *TINY[model], *SHORT, *more]


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["train/loss"] for row in rows if "train/loss" in row]


@pytest.mark.parametrize(
    ("model", "metric", "worst"),
    [
        ("cnn", "accuracy", 1.0),
        pytest.param("lstm", "accuracy", 1.0, marks=pytest.mark.slow),
        pytest.param("transformer", "bits_per_character", 20.0, marks=pytest.mark.slow),
    ],
)
def test_the_gesture(model, metric, worst, tmp_path, cache):
    """A command of its own, with the default logger, without a key, a network or a question."""
    command = [sys.executable, "train.py", *short(model), f"output={tmp_path}", f"cache={cache}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0, done.stderr
    folder = only_run(tmp_path)
    assert read_json(folder / "status.json")["state"] == "finished"
    summary = read_json(folder / "summary.json")
    assert summary["steps"] == 3
    assert not summary["diverged"]
    assert 0 < summary[f"validation/{metric}"] <= worst
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert read_json(folder / "config.json")["model"]["_target_"].startswith(f"normlab.models.{model}")
    made = read_json(folder / "provenance.json")
    assert made["command"].startswith("python train.py model=")
    assert made["packages"]["torch"]
    assert len(list((folder / "wandb").glob("offline-run-*/*.wandb"))) == 1
    for words in (
        f"layer · {model}",
        "parameters",
        "best validation",
        str(folder),
        "wandb leet",
        "normlab sync --runs",
    ):
        assert words in done.stdout, done.stdout
    assert "\x1b[" not in done.stdout  # plain in a pipe
    assert "Warning" not in done.stderr


@pytest.fixture
def trained(train, tmp_path):
    """A short LSTM run: its folder."""
    answer = train(*short("lstm", "logger=none", "test=true"))
    assert answer.status == 0, answer.err
    return only_run(tmp_path / "outputs")


def test_a_finished_run_is_shown_and_not_repeated(train, trained):
    before = (trained / "summary.json").read_bytes()
    answer = train(*short("lstm", "logger=none", "test=true"))
    assert answer.status == 0
    assert "nothing was computed" in answer.out
    assert only_run(trained.parents[1]) == trained
    assert (trained / "summary.json").read_bytes() == before


def test_two_runs_with_one_seed_are_bit_identical(train, trained, tmp_path):
    train(*short("lstm", "logger=none", "test=true"), output=tmp_path / "again")
    again = only_run(tmp_path / "again")
    assert losses(again) == losses(trained)
    assert len(losses(trained)) == 3
    for file in ("best.ckpt", "last.ckpt"):
        first, second = (torch.load(f / "checkpoints" / file, weights_only=True) for f in (trained, again))
        assert all(torch.equal(v, second["state_dict"][k]) for k, v in first["state_dict"].items())
    timeless = [{k: v for k, v in read_json(f / "summary.json").items() if "second" not in k} for f in (trained, again)]
    for summary in timeless:
        del summary["peak_memory_mb"]
    assert timeless[0] == timeless[1]


def test_another_seed_is_another_run(train, trained, tmp_path):
    train(*short("lstm", "logger=none", "seed=1"), output=tmp_path / "other")
    assert losses(only_run(tmp_path / "other")) != losses(trained)


def test_a_checkpoint_alone_rebuilds_its_model(trained):
    model = normlab.load_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert not model.training
    tokens = torch.randint(1, 20, (2, 5))
    assert model(tokens).shape == (2, 14)
    again = normlab.load_checkpoint(trained / "checkpoints" / "best.ckpt")
    assert torch.equal(model(tokens), again(tokens))


def test_evaluate_repeats_what_training_found(train, trained, tmp_path):
    ckpt = trained / "checkpoints" / "best.ckpt"
    options = ("measure=evaluate", f"ckpt={ckpt}", "logger=none", "trainer.batches=3")
    answer = train(*options, output=tmp_path / "evaluated")
    assert answer.status == 0, answer.err
    found, known = (read_json(f / "summary.json") for f in (only_run(tmp_path / "evaluated"), trained))
    for name in ("validation/accuracy", "validation/f1", "validation/loss", "test/accuracy", "test/loss"):
        assert found[name] == pytest.approx(known[name], rel=1e-6)


def test_divergence_is_an_outcome(train, tmp_path):
    answer = train(*short("cnn", "logger=none", "norm=none", "optim=sgd", "optim.lr=1e20"))
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["diverged"] is True
    assert "diverged" in answer.out


def test_a_damaged_checkpoint_is_named(train, trained):
    ckpt = trained / "checkpoints" / "best.ckpt"
    ckpt.write_bytes(ckpt.read_bytes()[:-1000])
    answer = train("measure=evaluate", f"ckpt={ckpt}")
    assert answer.status == 2
    assert "damaged" in answer.err


@pytest.mark.slow
def test_multirun_trains_every_combination(train, tmp_path):
    answer = train("-m", *short("cnn", "logger=none")[1:], "model=cnn", "norm=batch,layer", "seed=0,1")
    assert answer.status == 0, answer.err
    found = {"-".join(path.name.split("-")[:4]) for path in (tmp_path / "outputs" / "runs").iterdir()}
    assert found == {f"cnn-{norm}-fashion_mnist-{seed}" for norm in ("batch", "layer") for seed in (0, 1)}


def test_early_stopping(train, tmp_path):
    options = [o for o in short("cnn", "logger=none") if not o.startswith("trainer.steps")]
    answer = train(*options, "trainer.epochs=30", "trainer.patience=1", "optim.lr=1e-12", "optim.schedule=constant")
    assert answer.status == 0, answer.err
    assert read_json(only_run(tmp_path / "outputs") / "summary.json")["steps"] < 90


def test_csv_and_tensorboard_at_once(train, tmp_path):
    pytest.importorskip("tensorboard")
    answer = train(*short("cnn", "logger=[csv,tensorboard]"))
    assert answer.status == 0, answer.err
    folder = only_run(tmp_path / "outputs")
    header = (folder / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "validation/accuracy", "validation/f1"} <= set(header)
    assert list((folder / "tensorboard").glob("events.out.*"))


@pytest.mark.parametrize("steps", [3, 2])  # at an epoch's end, and between two validations
def test_precise_statistics_are_used(train, tmp_path, steps):
    """Precise statistics change what batch norm says in eval mode, and nothing about training."""
    for evaluation in ("running", "precise"):
        options = short("cnn", "logger=none", "norm=batch", f"norm.evaluation={evaluation}", f"trainer.steps={steps}")
        train(*options, output=tmp_path / evaluation)
    running, precise = (only_run(tmp_path / name) for name in ("running", "precise"))
    assert losses(running) == losses(precise)
    found = [read_json(folder / "summary.json")["validation/loss"] for folder in (running, precise)]
    assert all(map(math.isfinite, found))
    assert found[0] != found[1]


def test_mixed_precision(train, tmp_path):
    answer = train(*short("transformer", "logger=none", "trainer.precision=bf16-mixed"))
    assert answer.status == 0, answer.err


def test_a_full_disk_leaves_the_previous_checkpoint_good(train, trained, monkeypatch, tmp_path):
    """The second checkpoint of a run meets a full disk."""
    import errno

    from normlab.session import checkpointing

    written = []

    def fsync(number):
        written.append(number)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpointing, "os", SimpleNamespace(fsync=fsync))
    options = [o for o in short("cnn", "logger=none") if not o.startswith("trainer.steps")]
    answer = train(*options, "trainer.epochs=4", output=tmp_path / "full")
    assert answer.status == 2
    assert "disk is full" in answer.err
    assert "is intact" in answer.err
    folder = only_run(tmp_path / "full")
    normlab.load_checkpoint(folder / "checkpoints" / "best.ckpt")
    assert not list((folder / "checkpoints").glob("*.part"))
    assert read_json(folder / "status.json")["state"] == "failed"


def test_ctrl_c_stops_the_run_and_says_so(train, tmp_path, monkeypatch):
    from normlab.session.training_log import TrainingLog

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    monkeypatch.setattr(TrainingLog, "on_train_batch_end", lambda *_: signal.raise_signal(signal.SIGINT))
    answer = train(*short("cnn", "logger=none"))
    signal.signal(signal.SIGINT, before)
    assert answer.status == 130
    told, promised = answer.err.strip().splitlines()
    assert told == "stopped by Ctrl-C after step 1, which is saved"
    assert promised.startswith("The same command resumes from step 1: python train.py")
    folder = only_run(tmp_path / "outputs")
    assert read_json(folder / "status.json")["state"] == "stopped"
    assert not (folder / "owner").exists()


def test_a_failure_is_recorded_with_its_cause(train, tmp_path, monkeypatch):
    from normlab.session.training_log import TrainingLog

    def fail(*_):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(TrainingLog, "on_train_batch_end", fail)
    with pytest.raises(RuntimeError, match="on fire"):
        train(*short("cnn", "logger=none"))
    status = read_json(only_run(tmp_path / "outputs") / "status.json")
    assert (status["state"], status["cause"]) == ("failed", "RuntimeError: the machine is on fire")
