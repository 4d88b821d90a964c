"""People's own tables and masks, from training to the test of other data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normlab.folder.jsonfile import read_json

QUICK = ("logger=none", "trainer.progress=false", "trainer.threads=1")
NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, x):
        return {"out": self.head(self.body(x))}
"""


def summary(output: Path) -> dict[str, float]:
    (folder,) = (output / "runs").iterdir()
    return read_json(folder / "summary.json")


def checkpoint(output: Path) -> str:
    (folder,) = (output / "runs").iterdir()
    return f"ckpt={folder / 'checkpoints' / 'best.ckpt'}"


def table(path: Path, count: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 3)) * [1, 50, 1e-3] + [0, 1000, 3]
    y = 200 + 30 * x[:, 0] + 0.4 * x[:, 1] + random.normal(size=count)
    rows = [",".join(map(repr, row)) for row in np.c_[x, y].tolist()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["a,b,c,y", *rows]) + "\n")
    return path


def test_a_table_from_training_to_new_rows(train, tmp_path):
    task, model = ("task=table_files", "task.target=y", *QUICK), ("model=mlp", "model.depth=1", "norm=layer")
    path = table(tmp_path / "in.csv", 300, seed=0)
    output = tmp_path / "trained"
    learning = ("trainer.epochs=12", "optim.lr=0.03", "task.batch_size=32")
    test = f"task.test={table(tmp_path / 'late.csv', 100, seed=1)}"
    answer = train(*task, *model, f"task.path={path}", test, *learning, "test=true", output=output)
    assert answer.status == 0, answer.err
    assert "300 different numbers: regression" in answer.out
    found = summary(output)
    assert found["test/r2"] > 0.9
    assert found["test/rmse"] == pytest.approx(math.sqrt((1 - found["test/r2"]) * (30**2 + 20**2 + 1)), rel=0.3)
    assert found["test/mae"] < found["test/rmse"]
    assert {"validation/r2", "validation/mae", "last/rmse", "area/r2"} <= set(found)

    new = table(tmp_path / "new" / "test.csv", 100, seed=1).parent
    answer = train("measure=evaluate", checkpoint(output), f"task.path={new}", *QUICK, output=tmp_path / "again")
    assert answer.status == 0, answer.err
    assert summary(tmp_path / "again")["test/rmse"] == pytest.approx(found["test/rmse"], rel=1e-5)
    text = (new / "test.csv").read_text()
    (new / "test.csv").write_text(text.replace("a,b,c,y", "a,b,d,y"))
    answer = train("measure=evaluate", checkpoint(output), f"task.path={new}", *QUICK, output=tmp_path / "third")
    assert answer.status == 2
    assert "test.csv has no column 'c'; it has: a, b, d, y" in answer.err

    answer = train(*task, f"task.path={path}", "model=lstm", output=tmp_path / "lstm")
    assert answer.status == 2
    assert "model=lstm takes sequences of features or sequences of tokens" in answer.err
    assert "task=table_files gives rows of a table: choose model=mlp" in answer.err


def scenes(folder: Path, count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for i in range(count):
        mask = np.zeros((12, 12), np.uint8)
        top, left = random.integers(0, 8, 2)
        mask[top : top + 4, left : left + 4] = 1
        image = (mask * 120 + random.integers(40, 80, mask.shape)).astype(np.uint8)
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{i}.png")


@pytest.mark.slow
def test_masks_from_training_to_new_images(train, tmp_path):
    (tmp_path / "net.py").write_text(NET)
    scenes(tmp_path / "in" / "train", 40, seed=0)
    scenes(tmp_path / "in" / "test", 10, seed=1)
    task = ("task=segmentation_files", f"task.path={tmp_path / 'in'}", "task.batch_size=8", *QUICK)
    net = [f"model.target={tmp_path / 'net.py'}:Net", "++model.arguments.channels=data:channels"]
    model = ("model=module", *net, "++model.arguments.classes=data:outputs", "norm=group", "norm.groups=2")
    output = tmp_path / "trained"
    answer = train(*task, *model, "trainer.epochs=8", "optim.lr=0.05", "test=true", output=output)
    assert answer.status == 0, answer.err
    found = summary(output)
    assert found["test/mean_iou"] > 0.9
    assert found["test/mean_iou"] == pytest.approx((found["test/iou_0"] + found["test/iou_1"]) / 2, abs=1e-5)
    assert found["test/dice_1"] == pytest.approx(2 * found["test/iou_1"] / (1 + found["test/iou_1"]), abs=1e-5)

    answer = train(
        "measure=evaluate", checkpoint(output), f"trust=[{tmp_path / 'net.py'}]", *QUICK, output=tmp_path / "again"
    )
    assert answer.status == 0, answer.err
    assert summary(tmp_path / "again")["test/mean_iou"] == pytest.approx(found["test/mean_iou"], abs=1e-6)

    answer = train(*task, "model=mlp", "norm=layer", output=tmp_path / "mlp")
    assert answer.status == 2
    assert "model=mlp gives one output per image, and segmentation needs one per pixel: use model=cnn" in answer.err
    answer = train(*task, "model=cnn", "measure=scale_invariance", output=tmp_path / "scale")
    assert answer.status == 2
    assert "measure=scale_invariance is for classification and language modelling" in answer.err
