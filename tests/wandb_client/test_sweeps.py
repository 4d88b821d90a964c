"""W&B sweeps of the primaries: in step with conf/finding, and run by a real agent."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import sweep_run
import wandb_sweeps
from commands import ROOT
from normlab.config.schema import InputError

TINY = ("trainer.threads=1", "logger=wandb")


def test_the_files_are_what_the_findings_say():
    written = {path.name: path.read_text() for path in wandb_sweeps.FOLDER.glob("*.yaml")}
    assert written == wandb_sweeps.sweeps(), "run python scripts/wandb/wandb_sweeps.py"


@pytest.mark.parametrize("name", sorted(path.stem for path in wandb_sweeps.FOLDER.glob("*.yaml")))
def test_every_point_of_a_sweep_is_a_command(name):
    sweep = yaml.safe_load((wandb_sweeps.FOLDER / f"{name}.yaml").read_text())
    fixed = [part for part in sweep["command"] if "=" in part]
    for arm in sweep["parameters"]["arm"]["values"]:
        choices = sweep_run.choices_of([*fixed, f"arm={arm}", "seed=3"])
        assert choices[-1] == "seed=3"
        assert not any(choice.startswith(("arm=", "finding=", "scale=")) for choice in choices)


def test_values_pass_rightly():
    head = ["finding=gradient_growth", "arm=batch"]
    rest = [
        "task.max_length=None",
        "logger.wandb.tags=['a', 'b']",
        "test=True",
        "optim.lr=1e-05",
        "optim.betas=[0.9,0.99]",
    ]
    choices = sweep_run.choices_of([*head, *rest])
    assert choices[-5:] == ["task.max_length=null", *rest[1:]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["arm=batch"], "finding=... is missing"),
        (["finding=gradient_growth", "arm=x"], "has none, batch, layer"),
        (["finding=gradient_growth", "arm=batch", "scale=huge"], "scale=huge"),
        (["finding=nothing", "arm=batch"], "there is no finding"),
        (["--lr"], "no OPTION=VALUE"),
    ],
)
def test_bad_arguments_are_one_line(arguments, words):
    with pytest.raises(InputError, match=words):
        sweep_run.choices_of(arguments)


@pytest.mark.slow
def test_an_agent_runs_a_sweep(server, here, cache, tmp_path):
    """The shipped sweep of gradients, made smaller: two cells, one seed."""
    sweep = yaml.safe_load((wandb_sweeps.FOLDER / "gradient_growth.yaml").read_text())
    sweep["parameters"] |= {"arm": {"values": ["none", "layer"]}, "seed": {"values": [0]}}
    sweep["parameters"]["task.truncate"] = {"values": [False]}
    sweep["parameters"]["task.max_length"] = {"values": [None]}
    sweep["parameters"]["measure.batch_size"] = {"values": [32]}
    own = ["model.width=16", f"output={tmp_path / 'outputs'}", f"cache={cache}", *TINY]
    fixed = [part for part in sweep["command"] if not part.startswith("output=")]
    sweep["command"] = [*fixed[:-1], *own, "${args_no_hyphens}"]
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    program = str(Path(sys.executable).with_name("wandb"))
    environment = {
        **os.environ,
        **here,
        "WANDB_DIR": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "timeout": 240}
    made = subprocess.run([program, "sweep", str(tmp_path / "sweep.yaml")], check=False, **options)
    assert made.returncode == 0, made.stderr
    (name,) = server.state.sweeps
    ran = subprocess.run([program, "agent", f"loopback/normlab/{name}"], check=False, **options)
    assert ran.returncode == 0, ran.stderr
    runs = list(server.state.runs.values())
    assert [run.sweep for run in runs] == [name, name], ran.stdout + ran.stderr
    assert [run.values["norm"] for run in runs] == ["none", "layer"]
    assert [run.values["arm"] for run in runs] == ["none", "layer"]
    assert all(run.exit_code == 0 for run in runs)
    assert all(run.summary["gradient_growth"] is not None for run in runs)
    assert all(run.values["task_options"]["max_length"] is None for run in runs)
