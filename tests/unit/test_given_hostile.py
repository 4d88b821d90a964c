"""Data and networks of a Python process that would be written as something else than they are."""

from __future__ import annotations

import linecache
import sys
import types
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, Subset, TensorDataset
from torch.utils.data import SubsetRandomSampler as Part
from torch.utils.data import WeightedRandomSampler as Weighted

from normlab.comparing.code import target_of
from normlab.comparing.given import task_of
from normlab.config.errors import InputError

R = np.random.default_rng(0)
X, Y = R.normal(size=(20, 3)), R.integers(0, 2, 20)
FRAME = pd.DataFrame(X, columns=list("abc"))
BINARY = R.integers(0, 2, (20, 1, 4, 4))
ROWS = TensorDataset(torch.tensor(X), torch.tensor(Y))


def refused(data: Any, folder: Path, words: str) -> None:
    with pytest.raises(InputError) as caught:
        task_of(data, folder)
    assert words in str(caught.value)
    assert [*folder.iterdir()] == []


@pytest.mark.parametrize(
    ("loader", "name"),
    [
        (DataLoader(ROWS, 4, sampler=Part(range(15))), "SubsetRandomSampler"),
        (DataLoader(ROWS, 4, sampler=Weighted([1.0] * 20, 20)), "WeightedRandomSampler"),
        (DataLoader(ROWS, 4, sampler=RandomSampler(ROWS, replacement=True)), "RandomSampler"),
        (DataLoader(ROWS, 4, sampler=RandomSampler(ROWS, num_samples=5)), "RandomSampler"),
        (DataLoader(ROWS, batch_sampler=type("Buckets", (BatchSampler,), {})(SequentialSampler(ROWS), 4, False)), "B"),
    ],
)
def test_a_loader_that_draws_by_a_sampler_of_its_own_is_refused(loader: Any, name: str, tmp_path: Path) -> None:
    refused(loader, tmp_path, f"the train loader draws its examples by a {name}")
    refused((DataLoader(ROWS, 4), loader), tmp_path, f"the validation loader draws its examples by a {name}")


def test_a_loader_of_a_subset_is_that_subset(tmp_path: Path) -> None:
    for options in ({}, {"shuffle": True}, {"drop_last": True}):
        path = task_of(DataLoader(Subset(ROWS, range(15)), **options), tmp_path)["task.path"]
        assert len(pd.read_parquet(path)) == 15


class Flipped(Dataset):
    """Mirrors an example in ten."""

    def __len__(self) -> int:
        return 400

    def __getitem__(self, index: int) -> Any:
        row = X[index % 20]
        return row[::-1].copy() if R.random() < 0.1 else row, Y[index % 20]


class Missing(Flipped):
    """Has NaN, which doesn't equal itself."""

    def __getitem__(self, index: int) -> Any:
        return np.where(X[index % 20] > 1, np.nan, X[index % 20]), "ab"[Y[index % 20]]


def test_augmentation_that_leaves_most_examples_as_they_are_is_found(tmp_path: Path) -> None:
    refused(Flipped(), tmp_path, "draws at random")
    assert task_of(Missing(), tmp_path)["task.goal"] == "classification"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ((np.ma.masked_array(X, X > 1), Y), "below its mask would count"),
        ((X, np.ma.masked_array(Y, Y > 0)), "below its mask would count"),
        (((BINARY.astype(float), Y), (BINARY, Y)), "images of train float64, validation int64: real numbers go from"),
        ((FRAME, pd.DataFrame({"y": Y})), "the tables have different columns (train: a, b, c; validation: y)"),
        ((FRAME, pd.Series(Y)), "a table of pandas with the target as one of its columns"),
        ({"train": FRAME, "test": (X, Y)}, "train, test are of different kinds"),
        (FRAME.iloc[:0], "train is empty"),
        ((X[:0], Y[:0]), "train has 0 inputs and 0 targets"),
        ((X, None), "tuple can't be read"),
        ((X, np.array([1, "b"] * 10, dtype=object)), "an array of mixed types (int, str)"),
        ((X + 1j, Y), "values of type complex128"),
        ((X.astype("datetime64[s]"), Y), "values of type datetime64[s]"),
        ((torch.tensor(X).to_sparse(), torch.tensor(Y)), "give tensor.to_dense()"),
        (FRAME.assign(y=[1, "a"] * 10), "can't be written as Parquet: Could not convert 'a'"),
        (FRAME.set_axis(["a", "a", "b"], axis=1), "can't be written as Parquet: Duplicate column names"),
        (FRAME.assign(y=pd.arrays.SparseArray(Y)), "can't be written as Parquet: Sparse pandas data (column y)"),
    ],
)
def test_what_no_file_can_hold_as_it_is_is_refused(data: Any, words: str, tmp_path: Path) -> None:
    refused(data, tmp_path, words)


def test_the_byte_order_of_an_array_does_not_matter(tmp_path: Path) -> None:
    here = task_of((X, Y), tmp_path)
    assert task_of((X.astype(">f8"), Y.astype(">i8")), tmp_path) == here


def test_data_sets_of_hugging_face_keep_the_names_of_their_classes(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = datasets.Dataset.from_dict({"text": ["a b", "c"] * 10, "label": Y.tolist()}, features)
    made = task_of(datasets.DatasetDict(train=rows, test=rows), tmp_path)
    assert made["task"] == "text_files"
    assert sorted(file.name for file in Path(made["task.path"]).iterdir()) == ["test.parquet", "train.parquet"]
    assert b'"yes"' in (Path(made["task.path"]) / "train.parquet").read_bytes()


CELL = """
from functools import cache
from torch import nn

def scaled(self, x):
    return 2 * self.one(x)

class Net(nn.Module):
    def __init__(self, features=3):
        super().__init__()
        self.one = nn.Linear(features, 2)
    def forward(self, x):
        return self.one(x)
    @cache
    def twice(self):
        return 2
    alias = scaled
"""


def in_a_notebook(source: str, monkeypatch: Any) -> Any:
    module, name = types.ModuleType("__main__"), f"<cell {hash(source)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    monkeypatch.setitem(sys.modules, "__main__", module)
    exec(compile(source, name, "exec"), vars(module))
    return module


def test_a_method_that_was_replaced_later_is_refused(tmp_path: Path, monkeypatch: Any) -> None:
    assert target_of(in_a_notebook(CELL, monkeypatch).Net, tmp_path).endswith(":Net")
    for change in ("Net.forward = scaled", "Net.more = scaled", "Net.forward = lambda self, x: x"):
        cell = in_a_notebook(f"{CELL}\n{change}", monkeypatch)
        with pytest.raises(InputError, match="was replaced after the class was written"):
            target_of(cell.Net, tmp_path)
