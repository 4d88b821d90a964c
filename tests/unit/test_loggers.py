"""W&B goes online only where it is configured, never asks, and gets what a dashboard groups by."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from normlab.config.schema import InputError, WandbConfig
from normlab.folder.run_folder import RunFolder
from normlab.mirror.wandb_access import is_online
from normlab.session.record import RunRecord

SHORT = ("trainer.steps=2", "trainer.batches=2", "trainer.threads=1", "task.batch_size=16", "model.width=16")


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No key in the environment and none in a netrc file."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def config(mode="auto"):
    return WandbConfig(project="normlab", mode=mode)


def test_offline_without_a_key(nowhere):
    assert not is_online(config())


def test_online_with_a_key_in_the_environment(nowhere, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert is_online(config())
    assert not is_online(config("offline"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not is_online(config())


def test_online_with_a_key_in_netrc(nowhere, monkeypatch):
    nowhere.write_text("machine api.wandb.ai\n  login user\n  password secret\n")
    assert is_online(config())
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:8080")
    assert not is_online(config())


def test_online_on_request_needs_a_key(nowhere):
    with pytest.raises(InputError, match="wandb login"):
        is_online(config("online"))


@pytest.mark.slow
def test_an_offline_run_holds_what_a_dashboard_groups_by(train, tmp_path):
    answer = train("model=lstm", "norm=batch", "seed=3", "logger=wandb", "logger.wandb.tags=[trial]", *SHORT)
    assert answer.status == 0, answer.err
    (run,) = (tmp_path / "outputs").glob("runs/*/wandb/offline-run-*")
    leet = Path(sys.executable).with_name("wandb")
    done = subprocess.run([leet, "leet", "inspect", "--json", run], capture_output=True, text=True, check=True)
    text = done.stdout
    for words in ("lstm-batch-word_stress", "trial", "validation/accuracy", "train/loss", "normlab"):
        assert words in text, words
    for name, value in (("norm", "batch"), ("model", "lstm"), ("task", "word_stress"), ("seed", "3")):
        assert f'"{name}"' in text, name
        assert value in text, value


def test_all_loggers_tell_the_same_names_and_the_same_cell(train, tmp_path):
    seeds = [("seed=0",), ("seed=1",)]
    for seed in seeds:
        serves = "serves=['finding:one','arm:layer']"
        answer = train("model=lstm", "norm=layer", "logger=[csv,tensorboard]", serves, *seed, *SHORT)
        assert answer.status == 0, answer.err
    cells, rows = set(), []
    for folder in (tmp_path / "outputs" / "runs").iterdir():
        labels = yaml.safe_load((folder / "csv" / "hparams.yaml").read_text())
        assert labels == yaml.safe_load((folder / "tensorboard" / "hparams.yaml").read_text())
        assert (labels["norm"], labels["model"], labels["task"]) == ("layer", "lstm", "word_stress")
        assert labels["norm_options"]["eps"] == 1e-5
        assert labels["lr"] == labels["optim"]["lr"]
        assert labels["serves"] == ["finding:one", "arm:layer"]
        cells.add(labels["cell"])
        events = EventAccumulator(str(folder / "tensorboard"))
        events.Reload()
        names = set((folder / "csv" / "metrics.csv").read_text().splitlines()[0].split(",")) - {"step", "epoch"}
        kept = {name for row in RunFolder(folder).read_rows().rows for name in row} - {"step", "time"}
        assert names == kept
        assert kept <= set(events.Tags()["scalars"])
        rows.append(names)
    assert len(cells) == 1
    assert cells.pop().startswith("layer-lstm-word_stress-")


def test_what_a_measure_without_training_logs_is_written_too(train, tmp_path):
    options = ("model=mlp", "model.depth=4", "model.width=16", "measure=gradient_growth", "measure.batch_size=16")
    assert train(*options, "logger=csv", "trainer.threads=1").status == 0
    (file,) = (tmp_path / "outputs").glob("runs/*/csv/metrics.csv")
    assert len(file.read_text().splitlines()) == 5


def test_the_record_is_a_line_a_report(tmp_path):
    record = RunRecord(RunFolder(tmp_path))
    record.log_metrics({"train/loss": 1.5, "epoch": 0}, step=10)
    record.log_metrics({"train/loss": float("nan")}, step=20)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20]
    assert rows[0]["train/loss"] == 1.5
    assert "epoch" not in rows[0]
    assert rows[1]["train/loss"] is None
