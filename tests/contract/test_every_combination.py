"""Every legal norm × model × task takes one training step; the others are refused with a reason."""

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import open_dict

from norm_sites import OURS
from normlab.checks.config import checked
from normlab.config.schema import InputError
from normlab.data.load import load
from normlab.data.loader import loader
from normlab.models.build import build_model
from normlab.session.task import build_task

CONF = Path(__file__).parents[2] / "conf"
NORMS = sorted(OURS)
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if path.stem != "module")
QUICK = ("batch", "group")  # one pools examples, one positions
TASKS = (
    *("fashion_mnist", "fashion_rows", "word_stress", "union", "union_subwords", "author"),
    *("mnist1d", "wrist_motion", "emoji"),
)
SMALL = {
    "cnn": ["model.width=8"],
    "lstm": ["model.width=16", "model.embedding=8"],
    "mlp": ["model.width=16"],
    "transformer": ["model.width=32", "model.layers=1"],
}


@cache
def composed(*overrides):
    """Each only once, since composing takes longer than a step."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[*overrides, "logger=none"])


@pytest.fixture(scope="module")
def data(cache):
    loaded = {}

    def of(task):
        if task.name not in loaded:
            loaded[task.name] = load(task, cache)
        return loaded[task.name]

    return of


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("norm", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NORMS])
def test_one_step_on_every_task_or_a_reason(norm, model, data):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    taken = 0
    for name in TASKS:
        cfg = copy.deepcopy(composed(f"model={model}", f"task={name}", *SMALL.get(model, [])))
        with open_dict(cfg):
            cfg.norm = composed(f"norm={norm}").norm
        try:
            config = checked(cfg)
        except InputError:
            with pytest.raises(InputError, match=r"takes images|takes sequences|takes its statistics|not valid"):
                checked(cfg)
            continue
        try:
            one_step(config, data(config.task))
        except InputError:  # for a reason that only the data can give: one value for a statistic
            with pytest.raises(InputError, match="single value"):
                one_step(config, data(config.task))
            continue
        taken += 1
    torch.set_num_threads(threads)
    assert taken or norm in ("instance", "layer_channel", "frn", "grn", "evo_b", "evo_s", "switchable")


def one_step(config, data):
    torch.manual_seed(0)
    task = build_task(config, build_model(config.norm, config.model, data.sizes), data)
    batch = next(iter(loader(data.split("train"), 8, seed=0)))
    optimiser = torch.optim.SGD(task.parameters(), lr=1e-3)
    first = task.losses(task.model(batch.inputs, batch.mask), batch) / batch.total
    assert torch.isfinite(first)
    first.backward()
    for name, parameter in task.model.named_parameters():
        assert parameter.grad is not None, f"{name} is not used"
        assert torch.isfinite(parameter.grad).all(), name
    optimiser.step()
