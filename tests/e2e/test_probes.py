"""Measures that look into a network without training it, as a user gives them."""

import json
from pathlib import Path

import pytest

from normlab.folder.jsonfile import read_json

SMALL = ("model=mlp", "model.width=32", "model.depth=6", "trainer.threads=1", "logger=none")
GROWTH = ("measure=gradient_growth", "measure.batch_size=32", *SMALL)


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


def test_gradient_growth_from_the_command_to_the_record(train, tmp_path):
    answer = train(*GROWTH, "norm=batch")
    assert answer.status == 0, answer.err
    folder = only_run(tmp_path / "outputs")
    summary = read_json(folder / "summary.json")
    assert f"gradient growth      {summary['gradient_growth']:.4f} per layer backwards, from 5 to 2" in answer.out
    assert 1.1 < summary["gradient_growth"] < 1.35
    assert summary["parameters"] == 784 * 32 + 5 * 32 * 32 + 6 * 3 * 32 + 33 * 10
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["layer/gradient_log10"] == summary["gradient_log10_first"]
    assert rows[-1]["layer/cosine"] == summary["output_cosine"]
    again = train(*GROWTH, "norm=batch")
    assert "nothing was computed" in again.out
    assert f"{summary['gradient_growth']:.4f} per layer" in again.out


@pytest.mark.slow
def test_every_option_makes_another_run_with_another_result(train, tmp_path):
    options = ["measure.steps=1", "measure.inputs=data", "measure.batch_size=33", "measure.skip=0", "seed=1"]
    for option in ([], *([option] for option in options)):
        answer = train(*GROWTH, *option)
        assert answer.status == 0, answer.err
    growths = {read_json(f / "summary.json")["gradient_growth"] for f in (tmp_path / "outputs" / "runs").iterdir()}
    assert len(growths) == 6


@pytest.mark.parametrize(
    "choice", [("model=cnn", "model.width=8"), ("model=transformer", "task=word_stress", "measure.inputs=data")]
)
def test_gradient_growth_of_blocks(choice, train, tmp_path):
    answer = train(*GROWTH[:2], *choice, "measure.steps=1", "trainer.threads=1", "logger=none")
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["layers"] == 3
    assert summary["gradient_growth"] > 0


def test_a_network_whose_gradients_are_all_zero_is_recorded(train, tmp_path):
    answer = train(*GROWTH, "norm=layer", "norm.eps=1e300")
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["gradient_growth"] is None
    assert "gradient growth      not finite" in answer.out


def test_layers_reach_the_other_loggers(train, tmp_path):
    answer = train(*GROWTH[:-1], "norm=batch", "logger=csv")
    assert answer.status == 0, answer.err
    lines = (only_run(tmp_path / "outputs") / "csv" / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 6
    assert "layer/gradient_log10" in lines[0]


@pytest.mark.slow
def test_a_sweep_of_probes(train, tmp_path):
    answer = train("-m", *GROWTH, "norm=none,batch", "model.activation=relu,sigmoid", "seed=0,1")
    assert answer.status == 0, answer.err
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 8


def test_sample_coupling_of_a_language_model(train, tmp_path):
    options = ("model=transformer", "task=union", "model.width=32", "measure.positions=4")
    answer = train("measure=sample_coupling", *options, "norm=batch", "trainer.threads=1", "logger=none")
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["train/examples"] > 0
    assert summary["train/future"] > 0
    assert summary["eval/examples"] == summary["eval/future"] == 0.0
    assert summary["train/site/BTC/T"] > 0
    assert summary["train/site/BTC/C"] == summary["eval/site/BTC/T"] == 0.0
    assert summary["as_declared"] is True
    assert "axes, training       BC B · BCHW B,H,W · BTC B,T · recurrent B" in answer.out


def test_sample_coupling_of_images(train, tmp_path):
    answer = train("measure=sample_coupling", *SMALL, "norm=layer")
    assert answer.status == 0, answer.err
    summary = read_json(only_run(tmp_path / "outputs") / "summary.json")
    assert summary["train/examples"] == summary["eval/examples"] == 0.0
    assert "train/future" not in summary


@pytest.mark.slow
def test_step_time_from_the_command_to_the_record(train, tmp_path):
    options = ("measure=step_time", "measure.blocks=3", "norm=batch", "norm@measure.against=rms", *SMALL)
    answer = train(*options)
    assert answer.status == 0, answer.err
    folder = only_run(tmp_path / "outputs")
    summary = read_json(folder / "summary.json")
    assert f"rms {summary['step_ms_against']:.3f} ms" in answer.out
    assert f"ratio {summary['step_ratio']:.3f}" in answer.out
    assert "peak_memory_mb" not in summary  # of the process that only waits
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert "nothing was computed" in train(*options).out
