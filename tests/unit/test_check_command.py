"""normlab check: a short training of somebody's code, its diagnosis and its exit status."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from normlab.commands import check
from normlab.config.errors import InputError

CODE = """
import pytorch_lightning as pl, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def pictures():
    return TensorDataset(torch.randn(96, 3, 8, 8), torch.randint(0, 4, (96,)))

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))

class Lit(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)
        )
    def training_step(self, batch, number):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def validation_step(self, batch, number):
        self.training_step(batch, number)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

class Logging(Lit):
    def training_step(self, batch, number):
        loss = super().training_step(batch, number)
        self.log("loss", loss)
        return {"loss": loss}

class Epochs(Lit):
    def training_step(self, batch, number):
        return super().training_step(batch, number) * (1 + self.trainer.current_epoch)

class Failing(Lit):
    def training_step(self, batch, number):
        raise KeyError("weights")

class Photos(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(pictures(), 2, shuffle=True)
    def val_dataloader(self):
        return DataLoader(pictures(), 16)

def needs(width):
    return Net()

number = 3
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("theirs") / "checked_code.py"
    path.write_text(CODE, encoding="utf-8")
    return str(path)


def test_a_finding_is_named_and_gives_status_1(code: str, capsys, tmp_path: Path):
    page = tmp_path / "report.html"
    with pytest.raises(SystemExit) as ended:
        check.main([f"{code}:Lit", "--data", f"{code}:Photos", "--steps", "12", "--json", "--html", str(page)])
    assert ended.value.code == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["cause"] for one in report["diagnoses"]] == ["few_examples"]
    assert report["diagnoses"][0]["sites"] == ["net.1"]
    assert report["steps"] == 12
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    assert "few_examples" in text


def test_a_healthy_network_gives_status_0(code: str, capsys):
    check.main([f"{code}:Net", "--data", f"{code}:pictures", "--task", "classification", "--steps", "12"])
    assert "nothing found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["{}:Net", "--data", "{}:pictures"], "add --task"),
        (["{}:Lit", "--data", "{}:Photos", "--task", "regression"], "leave out --task"),
        (["{}:Lit"], "has no train_dataloader"),
        (["{}:needs", "--data", "{}:Photos"], "needs arguments (width)"),
        (["{}:nothing", "--data", "{}:Photos"], "has no nothing"),
        (["{}:number", "--data", "{}:Photos"], "gives a int"),
        (["{}:Lit", "--data", "{}:number"], "gives a int"),
        (["no_such_module:Lit", "--data", "{}:Photos"], "there is no module no_such_module"),
        (["Lit", "--data", "{}:Photos"], "package.module:Name"),
        (
            ["{}:Net", "--data", "{}:pictures", "--task", "classification", "--batch-size", "200"],
            "smaller --batch-size",
        ),
        (["{}:Failing", "--data", "{}:Photos"], "fails in step 1: KeyError"),
        (["{}:Lit", "--data", "{}:Photos", "--steps", "0"], "at least 1"),
        (["{}:Lit", "--data", "{}:Photos", "--html", "nowhere/page.html"], "there is no folder 'nowhere'"),
        (["{}:Lit", "--data", "{}:Photos", "--html", "nets.py"], "must end in .html"),
    ],
)
def test_bad_input_is_refused_in_words(code: str, arguments: list[str], says: str):
    with pytest.raises(InputError) as refused:
        check.main([argument.format(code) for argument in arguments])
    assert says in str(refused.value)


@pytest.mark.parametrize("name", ["Lit", "Logging"])
def test_the_gap_from_training_to_evaluation_is_decomposed(name, code, capsys):
    with pytest.raises(SystemExit):
        check.main([f"{code}:{name}", "--data", f"{code}:Photos", "--steps", "12", "--json"])
    gap = json.loads(capsys.readouterr().out)["gap"]
    assert list(gap) == ["train", "mode", "statistics", "data", "own"]
    assert 0.5 < gap["train"] < 5
    assert gap["mode"] != 0  # a batch of two has other statistics than the running ones


def test_a_loss_that_needs_the_trainer_has_no_gap_and_says_so(code, capsys):
    with pytest.raises(SystemExit):
        check.main([f"{code}:Epochs", "--data", f"{code}:Photos", "--steps", "12", "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["gap"] is None
    assert "the gap between training and evaluation isn't shown: the loss can't be computed" in said.err


SHAPES = """
import pytorch_lightning as pl, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

X = torch.randn(96, 3)

def net(outputs=1):
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))

def two():
    return net(2)

def numbers():
    return TensorDataset(X, X[:, 0].double())

def triples():
    return TensorDataset(X, X, X)

class Broadcast(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net()
    def training_step(self, batch, number):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1].float())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)
"""


def test_a_regression_compares_each_output_with_its_own_target():
    import torch

    from normlab.checking.named import Plain

    x, y = torch.randn(5, 1), torch.randn(5)
    module = Plain(torch.nn.Identity(), "regression")
    assert torch.equal(module.training_step((x, y.double()), 0), ((x[:, 0] - y) ** 2).mean())


@pytest.mark.parametrize(
    ("target", "data", "words"),
    [
        ("two", "numbers", "the network gives [32, 2], and the targets are [32]: a regression needs a number for each"),
        ("net", "triples", "a batch is 3 parts, not a pair (inputs, targets)"),
    ],
)
def test_batches_that_do_not_fit_the_loss_are_refused(target, data, words, tmp_path, capsys):
    file = tmp_path / f"shapes_{tmp_path.name}.py"  # a module has one name in a process
    file.write_text(SHAPES)
    with pytest.raises(InputError) as caught:
        check.main([f"{file}:{target}", "--data", f"{file}:{data}", "--task", "regression", "--steps", "4"])
    assert words in str(caught.value)


def test_a_loss_that_is_broadcast_is_said(tmp_path, capsys):
    file = tmp_path / f"shapes_{tmp_path.name}.py"  # a module has one name in a process
    file.write_text(SHAPES)
    with contextlib.suppress(SystemExit):
        check.main([f"{file}:Broadcast", "--data", f"{file}:numbers", "--steps", "4"])
    err = capsys.readouterr().err
    assert err.count("the loss compares outputs and targets of different shapes: Using a target size") == 1, err
