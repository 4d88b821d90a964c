"""`model=module`: a network that knows nothing of normlab, with any norm in place of its own."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import nn

from normlab.checks.config import checked
from normlab.command_line.arguments import for_hydra
from normlab.config.schema import InputError, RunConfig, Sizes
from normlab.models.build import build_model
from normlab.norms.base import Norm
from normlab.runs.code import code_hash
from normlab.runs.identity import run_id
from normlab.trust.names import named_modules, trusted_config

CONF = Path(__file__).parents[2] / "conf"
IMAGES = Sizes("images", (1, 8, 8), outputs=5, examples=50)
SERIES = Sizes("features", (6, 4), outputs=5, positions=6, shortest=3, examples=50)
WORDS = Sizes("tokens", (6,), outputs=5, vocabulary=9, positions=6, shortest=3, examples=50)
TEXT = Sizes("tokens", (6,), outputs=9, vocabulary=9, positions=6, causal=True, shortest=6, examples=50)
NETS = '''
from collections import namedtuple
import torch
from torch import nn
from blocks import block

Output = namedtuple("Output", "logits")
TABLE = {"a": 1}

class Net(nn.Module):
    def __init__(self, classes: int, width: int = 8, pool: str = "mean"):
        super().__init__()
        self.stem, self.body = block(1, width), block(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))

def plain(classes=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))

def wide(width, **options):
    return Net(5, width, **options)

def functional():
    class F(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.norm = Net(5), nn.LayerNorm(5)
        def forward(self, x):
            return torch.nn.functional.layer_norm(self.norm(self.net(x)), (5,))
    return F()

def number():
    return 3

def broken():
    raise RuntimeError("no weights here")

def lazy():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(5))

class Reader(nn.Module):
    """Of series, or of tokens with a vocabulary; gives an output per step if asked to."""

    def __init__(self, outputs, features=8, vocabulary=None, steps=False, ahead=False):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, features) if vocabulary else nn.Identity()
        self.lstm = nn.LSTM(features, 8, batch_first=True, bidirectional=ahead)
        self.norm = nn.LayerNorm(16 if ahead else 8)
        self.head = nn.Linear(16 if ahead else 8, outputs)
        self.steps = steps

    def forward(self, x, real=None):
        y = self.norm(self.lstm(self.embed(x))[0])
        if real is not None:
            y = y * real[..., None]
        return Output(self.head(y if self.steps else y.sum(1)))
'''
BLOCKS = """
from torch import nn

def block(inside, outside):
    return nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True))
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """The user's folder, in which they work."""
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "blocks.py").write_text(BLOCKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("nets", "blocks", "parts", "parts.nets", "parts.deep", "parts.deep.blocks"):
        sys.modules.pop(name, None)


def config(*overrides: str) -> RunConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("train", overrides=for_hydra(["model=module", "logger=none", *overrides])))


def model(target: str, norm: str = "layer", sizes: Sizes = IMAGES, only: str = "*", **arguments):
    named = {"mask": arguments.pop("mask", None), "target": target, "arguments": arguments, "only": only}
    options = {"groups": 4} if norm == "group" else {}
    place = {"own": "normlab.networks.own.OwnNorm", "batch": "normlab.norms.batch.BatchNorm"}
    kind = place.get(norm) or {"layer": "normlab.norms.layer.LayerNorm", "group": "normlab.norms.group.GroupNorm"}[norm]
    torch.manual_seed(3)
    return build_model({"_target_": kind, **options}, {"_target_": "normlab.networks.module.Module", **named}, sizes)


def norms(net: nn.Module) -> list[Norm]:
    return [module for module in net.modules() if isinstance(module, Norm)]


@pytest.mark.parametrize("target", ["nets.py:Net", "nets:Net"])
def test_a_networks_norms_are_replaced(own, target):
    net = model(target, "group", classes="data:outputs")
    assert [norm.name for norm in norms(net)] == ["group", "group"]
    assert not [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert net(torch.randn(4, 1, 8, 8)).shape == (4, 5)
    assert net.facts() == {"norms_replaced": 2}
    assert net.training


def test_shared_tensors_start_equal_with_every_norm_and_nothing_is_drawn(own):
    nets, states = {}, {}
    for norm in ("own", "batch", "layer", "group"):
        nets[norm], states[norm] = model("nets.py:Net", norm, classes=5), torch.get_rng_state()
    weights = {n: {k: v for k, v in net.named_parameters() if "1." not in k} for n, net in nets.items()}
    for name in ("batch", "layer", "group"):
        assert torch.equal(states[name], states["own"])
        assert weights[name].keys() == weights["own"].keys()
        assert all(torch.equal(value, weights["own"][key]) for key, value in weights[name].items())


def test_its_own_batch_norm_and_ours_compute_the_same(own):
    kept, ours = (model("nets.py:Net", norm, classes=5) for norm in ("own", "batch"))
    x = torch.randn(6, 1, 8, 8)
    assert not norms(kept)
    for _ in range(2):
        torch.testing.assert_close(ours(x), kept(x))
    torch.testing.assert_close(ours.eval()(x), kept.eval()(x))


def test_only_names_the_sites(own):
    net = model("nets.py:Net", only="body.*", classes=5)
    assert [path for path, module in net.named_modules() if isinstance(module, Norm)] == ["net.body.1"]


def test_lazy_modules_are_filled_first(own):
    assert model("nets.py:lazy")(torch.randn(2, 1, 8, 8)).shape == (2, 5)


def test_series_tokens_and_text(own):
    assert model("nets.py:Reader", sizes=SERIES, outputs="data:outputs", features="data:features")(
        torch.randn(3, 6, 4)
    ).shape == (3, 5)
    words = model("nets.py:Reader", sizes=WORDS, outputs=5, vocabulary="data:vocabulary", mask="real")
    x, mask = torch.randint(1, 9, (3, 6)), torch.arange(6) < torch.tensor([[6], [4], [2]])
    assert words(x, mask).shape == (3, 5)
    changed = torch.where(mask, x, 1)
    torch.testing.assert_close(words(x, mask), words(changed, mask))
    torch.testing.assert_close(words(x), words(x, torch.ones_like(mask)))
    assert model("nets.py:Reader", sizes=TEXT, outputs=9, vocabulary=9, steps=True)(x).shape == (3, 6, 9)


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("nets.py:Net", {"classes": 7}, r"gives float32 \[2, 7\] .* needs logits \[2, 5\]: .*NAME=data:outputs"),
        ("nets.py:Net", {}, "missing a required argument: 'classes'"),
        ("nets.py:plain", {}, "has no norm that another could replace: norm=own trains it as it is"),
        ("nets.py:functional", {}, "1 of 4 norms can't be replaced .*called as a function.* such as net.stem.1"),
        ("nets.py:number", {}, "gives a int, not a torch.nn.Module"),
        ("nets.py:TABLE", {}, "is a dict; name the class, or a function"),
        ("nets.py:broken", {}, "can't be built: RuntimeError: no weights here"),
        ("nets.py:Net", {"classes": 5, "width": 6, "norm": "group"}, r"stem.1 \(BatchNorm2d.*groups=1, 2, 3, 6$"),
        ("nets.py:Reader", {"outputs": 5}, r"does not accept images float32 \[2, 1, 8, 8\]"),
        ("nets.py:Reader", {"outputs": 9, "vocabulary": 9, "steps": True, "ahead": True, "sizes": TEXT}, "causal mask"),
        (
            "nets.py:Reader",
            {"outputs": 9, "vocabulary": 9, "steps": True, "norm": "group", "sizes": TEXT},
            "norm=group takes its statistics over time",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(own, target, changes, message):
    with pytest.raises(InputError, match=message):
        model(target, **changes)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        (["model.target=nets"], "write MODULE:NAME, such as my_package.nets:UNet or nets.py:UNet"),
        ([], "model.target has no value: set it with model.target=my_package.nets:UNet or"),
        (["model.target=net.py:Net"], r"there is no file net.py in .*: start from the folder"),
        (["model.target=my_nets:Net"], r"no module my_nets in .* or on Python's path: .*PYTHONPATH=FOLDER"),
        (["model.target=nets.py:Nett"], r"nets.py defines no Nett; it defines Net, plain"),
        (["model.target=nets.py:Net"], r"needs model.arguments.classes=...; its arguments: classes=..., width, pool"),
        (["model.target=nets.py:Net", "model.arguments.clases=5"], "has no argument clases"),
        (
            ["model.target=nets.py:Net", "model.arguments.classes=five"],
            r"model.arguments.classes=five: input should be",
        ),
        (["model.target=nets.py:Net", "model.arguments.classes=data:class"], "no data:class of images, only outputs, "),
        (
            ["model=cnn", "norm=own"],
            "norm=own keeps the norms of a network .* works only with model=module",
        ),
        (["model.target=nets.py:plain", "norm=own", "measure=site_time"], "site_time looks at norms of normlab"),
        (["model.target=nets.py:plain", "norm=own", "measure.inside=true"], "inside=true looks at norms of normlab"),
        (["model.target=nets.py:plain", "measure=gradient_growth"], "does not say which it has"),
    ],
)
def test_what_the_source_shows_is_refused_before_torch_is_imported(own, choices, message):
    with pytest.raises(InputError, match=message):
        config(*choices)


def test_what_the_source_does_not_show_is_left_to_python(own):
    assert config("model.target=nets.py:wide", "model.arguments.whatever=1").model["arguments"] == {"whatever": 1}
    with pytest.raises(InputError, match="missing a required argument: 'width'"):
        model("nets.py:wide", whatever=1)


def test_a_syntax_error_is_one_line(own):
    (own / "bad.py").write_text("class Net(:\n")
    with pytest.raises(InputError, match=r"bad.py, line 1: "):
        config("model.target=bad.py:Net")


def test_arguments_and_code_decide_which_run_it_is(own):
    (own / "parts" / "deep").mkdir(parents=True)
    for name in ("parts/__init__.py", "parts/deep/__init__.py"):
        (own / name).write_text("")
    (own / "parts" / "nets.py").write_text(NETS.replace("from blocks", "from .deep.blocks"))
    (own / "parts" / "deep" / "blocks.py").write_text(BLOCKS)
    for target, file in (("nets.py:Net", "blocks.py"), ("parts.nets:Net", "parts/deep/blocks.py")):
        made = [config(f"model.target={target}", f"model.arguments.classes={n}") for n in (5, 6)]
        assert run_id(made[0], "data") != run_id(made[1], "data")
        before = code_hash(made[0])
        assert code_hash(made[1]) == before
        (own / file).write_text(BLOCKS + "\n# a comment\n")
        assert code_hash(made[0]) == before
        (own / file).write_text(BLOCKS.replace("3, padding=1", "5, padding=2"))
        assert code_hash(made[0]) != before


def test_a_record_may_name_it_only_if_the_user_does(own, monkeypatch):
    made = config("model.target=nets.py:Net", "model.arguments.classes=5", "norm=own")
    record = made.model_dump(mode="json")
    with pytest.raises(InputError, match=r"its model is nets.py:Net.*trust=\[nets.py\] on the command line"):
        trusted_config(record, (), "a.ckpt")
    assert trusted_config(record, ["nets.py"], "a.ckpt").model == made.model
    assert named_modules(made.norm, made.model) == ["normlab.networks.own", "normlab.networks.module", "nets.py"]
    (own / "elsewhere").mkdir()
    monkeypatch.chdir(own / "elsewhere")
    with pytest.raises(InputError, match=r"a.ckpt: there is no file nets.py in .*elsewhere: start from the folder"):
        trusted_config(record, ["nets.py"], "a.ckpt")
    package = copy.deepcopy(record)
    package["model"]["target"] = "gone.nets:Net"
    with pytest.raises(InputError, match=r"no module gone.nets in .*the folder that holds gone on the path"):
        trusted_config(package, ["gone"], "a.ckpt")


def test_a_file_named_like_a_module_that_is_in_use_is_refused(own):
    (own / "torch.py").write_text(NETS)
    with pytest.raises(InputError, match="has the name of another module, torch: rename the file"):
        model("torch.py:Net", classes=5)
