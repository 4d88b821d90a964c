"""A user's own model outside the package: a module on the path and its YAML, two files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from normlab.checks.config import checked
from normlab.config.schema import InputError, Sizes
from normlab.config.signature import read
from normlab.models.base import outputs_of
from normlab.models.build import build_model
from normlab.models.fold import fold

CONF = Path(__file__).parents[2] / "conf"
IMAGES = Sizes("images", (1, 8, 8), outputs=5, examples=50)
PLAIN = """
from torch import nn
from normlab.models.base import Model

class Plain(Model):
    def __init__(self, norm, sizes, *, width: int = 8) -> None:
        super().__init__()
        self.hidden = nn.Linear(sizes.shape[-1] * sizes.shape[-2], width)
        self.norm = norm(width, "BC")
        self.head = nn.Linear(width, sizes.outputs)

    def forward(self, inputs, mask=None):
        return self.head(self.norm(self.hidden(inputs[:, 0].flatten(1))).relu())
"""
YAML = """
defaults:
  - override /task@_global_.task: fashion_mnist
  - override /optim@_global_.optim: sgd

_target_: plain.Plain
_partial_: true
width: 8
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder with the model and its YAML."""
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "conf" / "model" / "plain.yaml").write_text(YAML)
    monkeypatch.syspath_prepend(str(tmp_path))
    read.cache_clear()  # the same module's name is another file in each test
    yield tmp_path
    read.cache_clear()
    sys.modules.pop("plain", None)


def config(own: Path, *overrides: str):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        path = f"hydra.searchpath=[file://{own / 'conf'}]"
        return checked(compose("train", overrides=[path, "model=plain", "logger=none", *overrides]))


def test_a_constructor_and_forward_are_enough(own):
    made = config(own)
    assert (made.model_name, made.task.name, made.optim.name) == ("plain", "fashion_mnist", "sgd")
    model = build_model(made.norm, made.model, IMAGES)
    assert model(torch.randn(4, 1, 8, 8)).shape == (4, 5)
    assert [site.norm for site in model.sites()] == ["norm"]
    assert model.facts() == {}
    assert model.hidden_layers() == []
    with model.unfused(), outputs_of([model.norm]) as kept:
        model(torch.randn(4, 1, 8, 8))
    assert kept[0].shape == (4, 8)
    with pytest.raises(InputError, match="norm can't be folded exactly: the model does not say"):
        fold(model)
    with pytest.raises(InputError, match=r"Plain has no nn.Embedding: override token_vectors\(\)"):
        model.token_vectors()


def test_the_command_line_chooses_another_task_and_optimiser(own):
    made = config(own, "task=cifar10", "optim=adamw")
    assert (made.task.name, made.optim.name) == ("cifar10", "adamw")


def test_a_file_without_defaults_takes_the_general_ones(own):
    (own / "conf" / "model" / "plain.yaml").write_text("_target_: plain.Plain\n_partial_: true\n")
    made = config(own)
    assert (made.task.name, made.optim.name) == ("fashion_mnist", "adamw")


def test_its_options_are_checked(own):
    with pytest.raises(InputError, match=r"model\.width"):
        config(own, "model.width=wide")


def declare(own: Path, text: str) -> None:
    (own / "plain.py").write_text(PLAIN.replace("(Model):\n", f"(Model):\n    {text}\n"))
    read.cache_clear()


@pytest.mark.parametrize(
    ("declared", "choices", "message"),
    [
        ("", ["measure=gradient_growth"], r"does not say which it has: define depth and hidden_layers\(\)"),
        ("recurrent = True", ["measure=gradient_growth"], "model=plain is time"),
        ("recurrent = True", ["measure=site_time"], "model=plain they are inside the loop"),
        ('kinds = ("tokens",)', [], "model=plain takes sequences of tokens"),
        ('kinds = ("pictures",)', [], "kinds has 'pictures'; there are images, features, tokens"),
        ('layouts = ("BC",)', ["norm=instance"], "norm=instance is not valid"),
        ("layouts = ()", ["norm=instance"], None),
    ],
)
def test_what_it_declares_is_used(own, declared, choices, message):
    declare(own, declared)
    if message is None:
        with pytest.raises(InputError, match="not valid at a BC site"):
            build_model(config(own, *choices).norm, config(own, *choices).model, IMAGES)
        return
    with pytest.raises(InputError, match=message):
        config(own, *choices)


def test_a_class_outside_the_contract_is_one_clear_line(own):
    (own / "plain.py").write_text(PLAIN.replace("(Model)", "(nn.Module)"))
    with pytest.raises(InputError, match=r"model: plain\.Plain must subclass normlab\.models\.base\.Model"):
        config(own)
    with pytest.raises(InputError, match="must subclass"):
        build_model({"_target_": "normlab.norms.none.NoNorm"}, {"_target_": "builtins.slice"}, IMAGES)


def test_it_trains(own, train):
    choices = ("--config-dir", str(own / "conf"), "model=plain", "norm=batch", "trainer.steps=2", "trainer.batches=2")
    done = train(*choices, "logger=none", "trainer.progress=false", "trainer.threads=1")
    assert done.status == 0, done.err
