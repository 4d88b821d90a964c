"""A stranger's network to a comparison: trained with two norms, killed, resumed, evaluated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import normlab
from exactness import TINY, differences, result
from normlab.config.errors import InputError
from normlab.folder.jsonfile import read_json

NET = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inside, outside):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside)

    def forward(self, x):
        return torch.relu_(self.bn(self.conv(x)))


class Net(nn.Module):
    def __init__(self, num_classes: int, width: int = 8):
        super().__init__()
        self.features = nn.Sequential(Block(1, width), Block(width, 2 * width))
        self.classifier = nn.Linear(2 * width, num_classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))
"""


@pytest.fixture
def options(tmp_path, cache) -> list[str]:
    (tmp_path / "stranger.py").write_text(NET)
    target = f"model.target={tmp_path / 'stranger.py'}:Net"
    return ["model=module", target, "++model.arguments.num_classes=data:outputs", *TINY, f"cache={cache}"]


def folders(output: Path) -> dict[str, Path]:
    return {folder.name.split("-")[1]: folder for folder in (output / "runs").iterdir()}


@pytest.mark.slow
def test_a_strangers_network_from_training_to_its_test(options, zygote, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    (ended,) = zygote(["-m", *options, "norm=own,batch,layer", f"output={whole}"])
    assert ended.status == 0, ended.err
    runs = folders(whole)
    own, batch, layer = (read_json(runs[name] / "summary.json") for name in ("own", "batch", "layer"))
    assert batch["validation/loss"] == pytest.approx(own["validation/loss"], rel=1e-3)
    assert layer["validation/loss"] != batch["validation/loss"]
    assert (own.get("norms_replaced"), batch["norms_replaced"]) == (None, 2)

    (ended,) = zygote(
        [*options, "norm=batch", f"output={broken}", "trainer.save_steps=1"], at={"step": 7, "signal": "SIGKILL"}
    )
    assert ended.status == -9, ended.err
    (ended,) = zygote([*options, "norm=batch", f"output={broken}", "trainer.save_steps=1"])
    assert ended.status == 0, ended.err
    assert differences(result(folders(broken)["batch"]), result(runs["batch"])) == []

    best = runs["layer"] / "checkpoints" / "best.ckpt"
    module = str(tmp_path / "stranger.py")
    with pytest.raises(InputError, match="would run code"):
        normlab.load_checkpoint(best)
    net = normlab.load_checkpoint(best, trust=[module])
    assert net(torch.randn(2, 1, 28, 28)).shape == (2, 10)
    kept = normlab.load_checkpoint(runs["own"] / "checkpoints" / "best.ckpt", trust=[module])
    assert isinstance(kept.net.features[0].bn, torch.nn.BatchNorm2d)
    evaluate = [
        "measure=evaluate",
        f"ckpt={best}",
        "logger=none",
        *(o for o in options if o.startswith(("cache", "trainer"))),
    ]
    (ended,) = zygote([*evaluate, f"output={broken}"])
    assert ended.status == 2
    assert "would run code" in ended.err
    (ended,) = zygote([*evaluate, f"output={broken}", f"trust=[{module}]"])
    assert ended.status == 0, ended.err
    tested = read_json(folders(broken)["layer"] / "summary.json")
    assert tested["validation/loss"] == pytest.approx(layer["validation/loss"], rel=1e-5)
    assert 0 < tested["test/accuracy"] < 1
    (tmp_path / "stranger.py").unlink()
    with pytest.raises(InputError, match=r"no file .*stranger.py in"):
        normlab.load_checkpoint(best, trust=[module])
