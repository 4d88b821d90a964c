"""Every YAML composes, and every key is checked."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from normlab.checks.config import checked
from normlab.command_line.guard import help_text
from normlab.config.components import kind_of
from normlab.config.schema import InputError
from normlab.config.signature import read
from slowly import some

CONF = Path(__file__).parents[2] / "conf"
GROUPS = ("norm", "model", "task", "optim", "trainer", "logger")


def composed(*overrides: str):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


# choices that need a network of one's own
NET = f"model.target={Path(__file__).parents[1] / 'plain_nets.py'}:ResNet"
OWN = {"norm=own": ["model=module", NET], "model=module": [NET]}


def fitting_model(task: str) -> str:
    """A model that takes what the task gives."""
    for model in ("cnn", "lstm"):
        try:
            checked(composed(f"task={task}", f"model={model}"))
        except InputError:
            continue
        return model
    return "mlp"


@pytest.mark.parametrize("choice", some(f"{g}={c}" for g in GROUPS if g != "task" for c in choices(g)))
def test_every_choice_passes_the_checks(choice):
    config = checked(composed(choice, *OWN.get(choice, [])))
    assert config.optim.lr > 0


@pytest.mark.slow
@pytest.mark.parametrize("task", [t for t in choices("task") if not t.startswith("for_") and "files" not in t])
def test_every_task_passes_the_checks_with_a_model(task):
    assert checked(composed(f"task={task}", f"model={fitting_model(task)}")).task.name == task


@pytest.mark.parametrize("model", choices("model"))
def test_every_model_has_a_task_and_an_optimiser_that_suit_it(model):
    config = checked(composed(f"model={model}", *OWN.get(f"model={model}", [])))
    assert config.model_name == model
    assert kind_of(config.task) in read(config.model["_target_"]).constants["kinds"]
    defaults = OmegaConf.load(CONF / "model" / f"{model}.yaml").defaults
    (optim,) = [each["override /optim@_global_.optim"] for each in defaults if "override /optim@_global_.optim" in each]
    assert config.optim.lr == OmegaConf.load(CONF / "optim" / f"{optim}.yaml").lr


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_composes(experiment):
    assert checked(composed(f"experiment={experiment}")).seed == 0


def test_several_loggers_at_once():
    config = checked(composed("logger=[wandb,csv,tensorboard]"))
    assert config.logger.csv
    assert config.logger.tensorboard
    assert config.logger.wandb.project == "normlab"


def test_no_logger():
    config = checked(composed("logger=none"))
    assert config.logger.wandb is None
    assert not config.logger.csv


def test_help_lists_every_choice():
    text = help_text()
    for group in (*GROUPS, "measure", "experiment", "launcher"):
        for choice in choices(group):
            assert choice.startswith("for_") or re.search(rf"\b{choice}\b", text), f"{group}={choice}"
