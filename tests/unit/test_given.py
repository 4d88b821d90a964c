"""Networks and data that only a Python process has, as files that the runs of a comparison can read."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import normlab
from normlab.checks.config import checked
from normlab.comparing.code import root_of, target_of
from normlab.comparing.given import task_of
from normlab.config.errors import InputError
from normlab.data.load import load


def built(target: str) -> Any:
    """What the target names, imported from its file."""
    file, _, name = target.rpartition(":")
    spec = importlib.util.spec_from_file_location("written", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


CELL = """
import math
from torch import nn
from torch.nn import functional as F

WIDTH, NAMES = 6, {"a": (1, 2.5)}

def block(inside: int, outside: "int" = WIDTH):
    return nn.Sequential(nn.Linear(inside, outside), nn.BatchNorm1d(outside))

class Base(nn.Module):
    def squared(self, x):
        return math.sqrt(4) * F.relu(x) * NAMES["a"][0]

class Net(Base):
    def __init__(self, features: int, depth: int = 2):
        super().__init__()
        self.blocks = nn.ModuleList([block(features), *(block(WIDTH) for _ in range(depth - 1))])
    def forward(self, x):
        for one in self.blocks:
            x = self.squared(one(x))
        return x

def make(features):
    return Net(features) if features > 0 else make(-features)

def classifier(features, outputs):
    return nn.Sequential(make(features), nn.Linear(WIDTH, outputs))
"""
LOCAL = """
def outer():
    from torch.nn import Linear as L
    class Net(L):
        pass
    return Net
make = outer()
"""


@pytest.fixture
def notebook(monkeypatch):
    """What a notebook's cell defines: its source is in the line cache, its module has no file."""

    def run(source: str = CELL) -> types.SimpleNamespace:
        module, name = types.ModuleType("__main__"), f"<cell {hash(source)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        monkeypatch.setitem(sys.modules, "__main__", module)
        exec(compile(source, name, "exec"), vars(module))
        return types.SimpleNamespace(**vars(module))

    return run


@pytest.mark.parametrize("name", ["make", "Net"])
def test_a_notebooks_network_is_written_with_all_that_it_needs(name, notebook, tmp_path):
    cell = notebook()
    target = target_of(getattr(cell, name), tmp_path)
    torch.manual_seed(0)
    here = getattr(cell, name)(3)
    torch.manual_seed(0)
    there = built(target)(3)
    x = torch.randn(4, 3)
    assert torch.equal(here(x), there(x))


def test_the_files_name_follows_the_code_and_nothing_else(notebook, tmp_path):
    first = target_of(notebook().make, tmp_path)
    assert target_of(notebook("\n\nunused = object()\n" + CELL).make, tmp_path) == first
    assert target_of(notebook(CELL.replace("WIDTH, NAMES = 6", "WIDTH, NAMES = 7")).make, tmp_path) != first
    assert target_of(notebook(CELL.replace("relu", "gelu")).make, tmp_path) != first
    assert len([*tmp_path.iterdir()]) == 3


def test_a_local_function_takes_the_values_around_it(tmp_path):
    width = 5

    def net(features: int):
        return nn.Sequential(nn.Linear(features, width), nn.BatchNorm1d(width))

    assert built(target_of(net, tmp_path))(3)[0].out_features == 5


def test_what_others_can_import_is_named_and_not_copied(tmp_path):
    import plain_nets

    name = next(name for name, one in vars(plain_nets).items() if getattr(one, "__module__", "") == "plain_nets")
    assert target_of(getattr(plain_nets, name), tmp_path) == f"plain_nets:{name}"
    assert root_of(getattr(plain_nets, name)) == str(Path(plain_nets.__file__).parent)
    assert not [*tmp_path.iterdir()]


UNWRITABLE = {
    "weights = nn.Linear(2, 2)\ndef make():\n    return nn.Sequential(weights)": "make refers to weights, and that",
    "make = lambda: nn.Linear(2, 2)": "is a lambda",
    "make = nn.Linear(2, 2)": "give the class or function",
    LOCAL: "Net can't be written",
}


@pytest.mark.parametrize(("source", "message"), UNWRITABLE.items(), ids=[*UNWRITABLE.values()])
def test_what_has_no_source_is_refused(source, message, notebook, tmp_path):
    with pytest.raises(InputError, match=message):
        target_of(notebook("from torch import nn\n" + source + "\n").make, tmp_path)


def config(options: dict[str, Any]):
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from normlab.command_line.arguments import for_hydra

    GlobalHydra.instance().clear()
    choices = [f"{name}={value}" for name, value in options.items()]
    with initialize_config_dir(str(Path(__file__).parents[2] / "conf"), version_base="1.3"):
        model = "mlp" if options["task"] in ("table_files", "image_files") else "cnn"
        model = "lstm" if options["task"] == "series_files" else model
        return checked(compose("train", overrides=for_hydra([*choices, f"model={model}"])), choices)


def loaded(data: Any, folder: Path):
    return load(config(task_of(data, folder / "given")).task, folder / "cache")


def rows(count: int = 40):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, generator=g)
    return x, (x.sum(1) > 0).long()


class Module(pl.LightningDataModule):
    def setup(self, stage):
        self.train = TensorDataset(*rows())

    def train_dataloader(self):
        return DataLoader(self.train, 8, shuffle=True, drop_last=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*rows(20)), 8)


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        (rows(), [36, 4]),
        (tuple(part.numpy() for part in rows()), [36, 4]),
        ((rows(), rows(20)), [40, 20]),
        ({"train": rows(), "validation": rows(20), "test": rows(10)}, [40, 20, 10]),
        (TensorDataset(*rows()), [36, 4]),
        ((TensorDataset(*rows()), TensorDataset(*rows(20))), [40, 20]),
        ((DataLoader(TensorDataset(*rows()), 7, shuffle=True), DataLoader(TensorDataset(*rows(20)), 7)), [40, 20]),
        (Module(), [40, 20]),
    ],
    ids=["tensors", "arrays", "pairs", "splits", "dataset", "datasets", "loaders", "module"],
)
def test_rows_arrive_as_they_are(data, counts, tmp_path):
    found = loaded(data, tmp_path)
    assert [len(split) for split in found.splits.values()] == counts
    train = found.split("train")
    if len(train) == 40:
        assert torch.equal(train.inputs.float(), rows()[0])
        assert torch.equal(train.targets, rows()[1])
    assert task_of(data, tmp_path / "given") == task_of(data, tmp_path / "given")


def test_a_float_target_is_a_regression(tmp_path):
    x, _ = rows()
    found = loaded((x, x.sum(1, keepdim=True)), tmp_path)
    assert (found.sizes.outputs, found.classes) == (1, None)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.sampled_from([1, 3]), st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_images_lose_nothing(tmp_path_factory, channels, seed, as_floats, masked):
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (12, channels, 5, 4)).astype(np.uint8)
    pixels[0, 0, 0], pixels[-1, 0, 0] = 0, 255
    targets = random.integers(0, 2, (12, 5, 4)) if masked else np.arange(12) % 2
    inputs = torch.from_numpy(pixels).float() / 255 if as_floats else pixels
    options = task_of({"train": (inputs, targets), "validation": (inputs, targets)}, tmp_path_factory.mktemp("given"))
    train = load(config(options).task, tmp_path_factory.mktemp("cache")).split("train")
    assert np.array_equal(train.inputs.numpy(), pixels)
    assert np.array_equal(train.targets.numpy(), targets)


def test_series_arrive_as_they_are(tmp_path):
    x = torch.randn(20, 7, 2)
    found = loaded({"train": (x, rows(20)[1]), "validation": (x, rows(20)[1])}, tmp_path)
    assert torch.equal(found.split("train").inputs, x)


class Drawn(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return torch.randn(3), 0


class Stream(IterableDataset):
    def __iter__(self):
        yield from TensorDataset(*rows())


class Uneven(Drawn):
    def __getitem__(self, index):
        return torch.ones(index + 1, 2), 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Drawn(), "gives another example 0 each time"),
        (Stream(), "a stream without a length"),
        (Uneven(), "different shapes"),
        (DataLoader(TensorDataset(*rows()), 4, collate_fn=lambda items: items), "a collate_fn of its own"),
        ((torch.randn(8, 3, 4, 4), torch.zeros(8).long()), "no pixels of 8 bits"),
        ((torch.rand(8, 5, 4, 4), torch.zeros(8).long()), "one or three channels"),
        ((torch.randn(8, 3), torch.zeros(8, 2)), "one label or number"),
        ((torch.randn(8, 3), torch.zeros(7)), "8 inputs and 7 targets"),
        (rows()[0], "can't be read: give a task"),
        ({"training": rows()}, "data has training: give train"),
        ({"task.path": "x"}, "data has task.path: give train"),
        ("photos/", "no such file or folder"),
        ("rows.csv", "no such file or folder"),
        (__file__, "files of type '.py' can't be read"),
        (3, "int can't be read"),
    ],
)
def test_data_that_cannot_be_copied_are_refused(data, message, tmp_path):
    with pytest.raises(InputError, match=message):
        task_of(data, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_a_path_tells_its_task(tmp_path):
    frame = pd.DataFrame({"a": [1.0, 2.0], "label": [0, 1]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.assign(series=[[1.0], [2.0]]).to_parquet(tmp_path / "series.parquet")
    for folder in ("cats", "dogs"):
        (tmp_path / "classes" / folder).mkdir(parents=True)
        (tmp_path / "classes" / folder / "1.png").touch()
    for folder in ("train/images", "train/masks"):
        (tmp_path / "masked" / folder).mkdir(parents=True)
    found = {
        name: task_of(tmp_path / name, tmp_path)["task"] for name in ("rows.csv", "series.parquet", "classes", "masked")
    }
    assert [*found.values()] == ["table_files", "series_files", "image_files", "segmentation_files"]
    given = task_of(frame, tmp_path / "given")
    assert given["task"] == "table_files"
    pd.testing.assert_frame_equal(pd.read_parquet(given["task.path"]), frame)


SMALL = {
    **{"trainer.epochs": 1000, "trainer.steps": 8, "trainer.validations": 1, "scale": "smoke", "optim.lr": 0.003},
    **{"task.batch_size": 16, "scale.seeds.training": 2},
}


@pytest.mark.slow
def test_a_notebooks_network_and_tensors_to_a_verdict(notebook, tmp_path, capfd):
    """And a second comparison shares the runs, because code and data are the same."""
    make = functools.partial(notebook().classifier, features=3, outputs=2)
    options = {**SMALL, "output": str(tmp_path / "out"), "margin": 0.02}
    first = normlab.compare(make, (rows(), rows(20)), ["batch", "layer"], **options)
    assert set(first.verdicts) == {"layer"}
    assert first.page.is_file()
    capfd.readouterr()
    again = functools.partial(notebook().classifier, features=3, outputs=2)
    normlab.compare(again, (rows(), rows(20)), ["batch", "rms"], **options)
    assert "4 runs, 2 finished before" in capfd.readouterr().out
