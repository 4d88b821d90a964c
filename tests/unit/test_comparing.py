"""What `compare=` refuses before anything runs, how it is read, and what is concluded."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
from omegaconf import OmegaConf
from scipy.stats import t

import normlab
from normlab.command_line.arguments import for_hydra
from normlab.comparing.arms import arms
from normlab.comparing.planned import comparison
from normlab.config.errors import InputError
from normlab.findings.finding import Finding
from normlab.findings.judge import judge
from normlab.report.comparison import result
from normlab.results.words import with_unit


def planned(*arguments: str, norms: tuple[str, ...] = ("batch", "layer"), **options: Any) -> Finding:
    cfg = {"compare": list(norms), "metric": None, "margin": None, "mode": None, "test": False, "project": None}
    usual = {"task": {"goal": "classification", "name": "mnist1d"}, "optim": {"lr": 0.001}, "scale": {"name": "quick"}}
    return comparison(OmegaConf.create({**cfg, **usual, **options}), arguments, [])


@pytest.mark.parametrize(
    ("norms", "message"),
    [
        (["batch"], "needs two norms"),
        (["batch", "layer", "norm=batch"], "lists 'norm=batch' twice"),
        (["batch", "group groups=8"], "not groups=8"),
    ],
)
def test_norms_that_make_no_comparison_are_refused(norms: list[str], message: str):
    with pytest.raises(InputError, match=message):
        arms(norms)


def test_a_norm_can_have_options():
    assert arms(["batch", "group norm.groups=8"]) == {
        "batch": ["norm=batch"],
        "group_groups_8": ["norm=group", "norm.groups=8"],
    }


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["norm=rms"], {}, "compare=... names the norms"),
        (["seed=1"], {}, "seeds are paired"),
        (["study=textbook"], {}, "a study of its own"),
        (["optim=adamw,sgd"], {}, "varies the norm alone"),
        (["optim.lr=1e-3,1e-2"], {}, "five learning rates or more"),
        (["optim.lr=fast"], {}, "write numbers"),
        ([], {"margin": 0}, "a number above 0"),
        ([], {"margin": "big"}, "a number above 0"),
        ([], {"metric": "validation/loss"}, "margin has no value"),
        ([], {"metric": "train/accuracy"}, "it begins with"),
        ([], {"metric": "test/accuracy"}, "add test=true"),
        (
            [],
            {"metric": "validation/f2"},
            "logs no f2; of validation it logs accuracy, f1, loss; did you mean metric=v",
        ),
        ([], {"metric": "area/f1"}, "of area it logs accuracy, loss"),
        ([], {"metric": "r2"}, "logs no r2"),
        ([], {"mode": "max"}, "Lightning project"),
        ([], {"project": {}}, "one that the project logs"),
        ([], {"project": {}, "metric": "thing"}, "mode=max or mode=min"),
    ],
)
def test_what_contradicts_a_comparison_is_refused(arguments: list[str], options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        planned(*arguments, **options)


@pytest.mark.parametrize("written", [["compare=a,b", "compare=c,d"], ["compare=a,,b"]])
def test_a_comparison_is_written_once_and_whole(written: list[str]):
    with pytest.raises(InputError, match=r"given twice|missing between"):
        for_hydra(written)


def test_one_learning_rate_holds_for_all_norms_and_otherwise_each_is_tuned():
    assert planned("optim.lr=0.01").tune is None
    assert "optim.lr=0.01" in planned("optim.lr=0.01").common
    tune = planned().tune
    assert tune is not None
    assert tune.points == [0.0001, 0.0003, 0.001, 0.003, 0.01]


def expected(low: float, high: float, margin: float) -> str:
    if low > margin:
        return "better"
    if high < -margin:
        return "worse"
    return "equal" if -margin < low and high < margin else "open"


@pytest.mark.parametrize("gain", [0.05, -0.05, 0.0, 0.0105, -0.0095, 0.0085, 0.012])
def test_the_interval_of_paired_differences_decides(gain: float):
    finding = planned("optim.lr=0.01", margin=0.01)
    noise = [0.001, -0.002, 0.003, -0.001, 0.002, -0.003, 0.0005, -0.0005]
    rows = [
        {"arm": arm, "condition": "", "seed": seed, "diverged": False, finding.metric: score}
        for seed, e in enumerate(noise)
        for arm, score in (("batch", 0.7 + seed / 100), ("layer", 0.7 + seed / 100 + gain + e))
    ]
    verdict = judge(finding, rows, 8, "quick", {})
    (estimate,) = verdict.estimates
    assert estimate.interval is not None
    low, high = estimate.interval.low, estimate.interval.high
    assert low <= gain + mean(noise) <= high
    assert high - low >= 2 * float(t.ppf(0.975, 7)) * stdev(noise) / math.sqrt(8) * 0.99
    found = result(finding, verdict)
    (line,) = [line for line in found.lines if line.verdict]
    assert line.verdict.partition(":")[0] == expected(low, high, 0.01)
    if abs(gain) in (0.05, 0.0):
        assert expected(low, high, 0.01) == {0.05: "better", -0.05: "worse", 0.0: "equal"}[gain]
    assert found.text.startswith("Compared with batch norm by validation/accuracy, on 8 pairs")
    assert "differences of 1 point matter" in found.text
    assert "was not tuned" in found.text


def test_a_projects_metric_has_its_own_name():
    options = {"project": {"target": "nets.py:Lit"}, "metric": "val_dice", "margin": 0.02, "optim": {"lr": None}}
    finding = planned("optim.lr=0.01", **options)
    assert (finding.metric, finding.better) == ("best", "higher")
    rows = [
        {"arm": arm, "condition": "", "seed": seed, "diverged": False, "best": 0.5 + seed / 100 + (arm == "layer")}
        for seed in range(8)
        for arm in finding.arms
    ]
    assert "by val_dice, on 8 pairs" in result(finding, judge(finding, rows, 8, "quick", {})).text


@pytest.mark.parametrize(
    ("goal", "metric", "better"),
    [
        *(("classification", metric, "higher") for metric in ("accuracy", "f1")),
        *(("regression", metric, "lower") for metric in ("mae", "rmse", "loss")),
        *(("segmentation", metric, "higher") for metric in ("mean_dice", "iou_1", "dice_cell")),
        ("language_modelling", "perplexity", "lower"),
    ],
)
def test_whether_a_higher_metric_is_better(goal: str, metric: str, better: str):
    assert planned(metric=metric, margin=0.1, task={"goal": goal, "name": "x"}).better == better


def flags_first(choices: list[str]) -> list[str]:
    """The command in Hydra's terms; the fixture adds options behind it."""
    return sorted(for_hydra(choices), key=lambda choice: not choice.startswith("-"))


def test_the_loss_of_a_comparison_has_no_unit():
    """That of a regression is a squared error, and nats would be wrong."""
    finding = planned(metric="validation/loss", margin=0.1, task={"goal": "regression", "name": "x"})
    assert with_unit("validation/loss", finding) == "validation loss"
    ours = finding.model_copy(update={"rule": "better"})
    assert with_unit("validation/loss", ours) == "validation loss (nats)"


LIT = ("project=" + str(Path(__file__).parents[1] / "lightning_variants.py:{}"), "metric=val/acc", "margin=0.01")
LIT += ("trainer.epochs=2", "optim.lr=0.01", "scale.seeds.training=2")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("WithLoaders", ["metric=val/dice"], "does not log it; by the end of a validation, it logs val/acc"),
        ("OneByOne", [], "instance can't stand in this network. project="),
        ("Broken", [], "fails in validation_step"),
        ("NoNorms", [], "layer can't stand in this network. project="),
    ],
)
def test_what_is_wrong_with_a_project_is_said_once_and_before_training(
    name: str, options: list[str], message: str, train: Any, tmp_path: Path
):
    given = [LIT[0].format(name), *(one for one in LIT[1:] if one.partition("=")[0] not in str(options)), *options]
    answer = train(*flags_first(["compare=own,layer,instance", *given, "scale=smoke"]))
    assert (answer.status, message in answer.err, len(answer.err.splitlines())) == (2, True, 1), answer.err
    assert not [*tmp_path.glob("outputs/runs/*")]


@pytest.mark.parametrize("scale", ["smoke", pytest.param("quick", marks=pytest.mark.slow)])
def test_a_project_works_at_every_scale(scale: str, train: Any):
    given = [LIT[0].format("WithLoaders"), *LIT[1:], f"scale={scale}", "scale.looks.training=null"]
    answer = train(*flags_first(["compare=batch,layer", *given]))
    assert answer.status == 0, answer.err
    assert ("scale=smoke: without task.eval_batch_size=32, because a project brings" in answer.out) == (
        scale == "smoke"
    )
    assert ("scale=quick: each norm is tuned, because" in answer.out) == (scale == "quick")
    assert "Compared with batch norm by val/acc, on 2 pairs" in " ".join(answer.out.split())


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["full", "paper"])
def test_a_project_can_be_planned_at_the_large_scales(scale: str, train: Any):
    answer = train(
        *flags_first(["compare=batch,layer", LIT[0].format("WithLoaders"), *LIT[1:-1], f"scale={scale}", "dry=true"])
    )
    assert answer.status == 0, answer.err
    assert "runs, 0 finished" in answer.out


def test_python_refuses_norms_that_are_no_list():
    with pytest.raises(InputError, match="give a list"):
        normlab.compare("mlp", "mnist1d", "batch")


SMALL = {
    **{"trainer.epochs": 1000, "trainer.steps": 20, "trainer.validations": 1, "scale": "smoke", "optim.lr": 0.003},
    **{"task.batch_size": 32, "scale.seeds.training": 2},
}


@pytest.mark.slow
def test_a_norm_that_cannot_stand_in_the_users_network_is_named_before_training(tmp_path: Path):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\n\n\ndef net(n: int, length: int):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(length, 8), nn.BatchNorm1d(8), nn.Linear(8, n))\n"
    )
    arguments = ["compare=batch,group norm.groups=3", "model=module", "model.target=nets.py:net", "task=mnist1d"]
    arguments += ["model.arguments.n=data:outputs", "model.arguments.length=data:length", "output=out"]
    arguments += [f"{name}={value}" for name, value in SMALL.items()]
    command = [sys.executable, "-m", "normlab", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "group_groups_3 can't stand in this network" in done.stderr
    assert not list((tmp_path / "out").glob("runs/*"))


@pytest.mark.slow
def test_a_second_comparison_shares_the_runs_of_the_first(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    options = {**SMALL, "output": str(tmp_path / "out")}
    first = normlab.compare("mlp", "mnist1d", ["batch", "layer"], **options)
    assert first.page.exists()
    assert set(first.verdicts) == {"layer"}
    assert "claim None" not in capfd.readouterr().out
    second = normlab.compare("mlp", "mnist1d", ["batch", "layer", "rms"], **options)
    assert "6 runs, 4 finished before" in capfd.readouterr().out
    assert second.table["norm"].tolist() != first.table["norm"].tolist()
    assert "rms" in repr(second)
