"""Time series: read as they are, standardised by their real steps, padded with what becomes 0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import parquet, task
from hypothesis import given
from hypothesis import strategies as st

from normlab.config.schema import InputError, TaskConfig
from normlab.data.fitted import Fitted
from normlab.data.load import Data, load
from normlab.data.splits import Examples
from normlab.models.lstm import LSTM
from normlab.models.transformer import Transformer
from normlab.norms.layer import LayerNorm
from normlab.views.sequences import packed

LABELS = ["x", "y", "x", "y"]


def series(path: Path, **options: Any) -> TaskConfig:
    return task(path, **{"view": "series", "input": "series", **options})


def drawn(lengths: list[int], features: int = 2, seed: int = 0) -> list[list[list[float]]]:
    random = np.random.default_rng(seed)
    return [random.normal(3, 2, (length, features)).astype(np.float32).tolist() for length in lengths]


def folder(path: Path, train: list[Any], validation: list[Any]) -> Path:
    parquet(path / "train.parquet", series=train, label=LABELS[: len(train)])
    parquet(path / "validation.parquet", series=validation, label=LABELS[: len(validation)])
    return path


def loaded(tmp_path: Path, train: list[Any], validation: list[Any], **options: Any) -> Data:
    return load(series(folder(tmp_path / "data", train, validation), **options), tmp_path / "cache")


def examples(data: Data, name: str = "train") -> Examples:
    split = data.split(name)
    assert isinstance(split, Examples)
    return split


def test_real_steps_are_standardised_and_padding_is_0(tmp_path: Path) -> None:
    train = drawn([3, 5, 2, 4])
    data = loaded(tmp_path, train, drawn([6, 1], seed=1))
    assert (data.sizes.kind, data.sizes.shape, data.sizes.shortest, data.sizes.examples) == ("features", (6, 2), 2, 4)
    batch = data.split("train").gather(torch.arange(4))
    assert batch.mask is not None
    assert batch.mask.sum(1).tolist() == [3, 5, 2, 4]
    steps = np.concatenate([np.array(one) for one in train])
    for i, one in enumerate(train):
        expected = (np.array(one) - steps.mean(0)) / steps.std(0)
        np.testing.assert_allclose(batch.inputs[i, : len(one)].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert batch.inputs[~batch.mask].abs().max() == 0
    real = batch.inputs[batch.mask]
    torch.testing.assert_close(real.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(real.std(0, correction=0), torch.ones(2))


def test_a_list_of_numbers_is_one_feature_and_a_constant_one_becomes_0(tmp_path: Path) -> None:
    data = loaded(tmp_path, [[7, 7.0], [7, 7]], [[8.0, 7.0]])
    assert data.sizes.shape == (2, 1)
    assert data.split("train").gather(torch.arange(2)).inputs.abs().max() == 0
    validation = data.split("validation").gather(torch.arange(1))
    assert validation.inputs.flatten().tolist() == [1, 0]
    assert validation.mask is None


def test_json_lines_and_parquet_give_the_same(tmp_path: Path) -> None:
    train = drawn([3, 1])
    for split in ("train", "validation"):
        rows = [json.dumps({"series": one, "label": label}) for one, label in zip(train, "xy", strict=True)]
        (tmp_path / "lines").mkdir(exist_ok=True)
        (tmp_path / "lines" / f"{split}.jsonl").write_text("\n".join(rows))
    lines = load(series(tmp_path / "lines"), tmp_path / "cache")
    assert lines.fingerprint == loaded(tmp_path, train, train).fingerprint


def test_a_limit_cuts_series_only_if_that_is_allowed(tmp_path: Path) -> None:
    refused(tmp_path, drawn([3, 5]), "validation", "5 time steps", "task.max_length=4", "truncate", max_length=4)
    data = load(series(tmp_path / "data", max_length=4, truncate=True), tmp_path / "cache")
    assert examples(data, "validation").lengths_at(torch.arange(2)).tolist() == [3, 4]


def refused(tmp_path: Path, values: list[Any], *expected: str, train: list[Any] | None = None, **options: Any) -> None:
    (tmp_path / "data").mkdir(exist_ok=True)
    for split, rows in (("train", drawn([2, 3]) if train is None else train), ("validation", values)):
        text = "\n".join(json.dumps({"series": one, "label": "xy"[i]}) for i, one in enumerate(rows))
        (tmp_path / "data" / f"{split}.jsonl").write_text(text)
    with pytest.raises(InputError) as caught:
        load(series(tmp_path / "data", **options), tmp_path / "cache")
    assert [part for part in expected if part not in str(caught.value)] == [], str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1 2 3", "a list of numbers expected, found str '1 2 3'"),
        ([[1, 2], [3]], "different numbers of features"),
        ([], "at least one time step"),
        ([[[1, 2]]], "at least one time step, each a number or a list of numbers"),
        ([[1, None]], "without gaps"),
        ([["1", "2"]], "must be numbers"),
        ([[1, float("nan")]], "not a number"),
        ([[1, 1e39]], "too large for float32"),
        ([[1, 2, 3]], "3 features per time step; the first training example has 2"),
    ],
)
def test_what_is_no_series_is_refused_with_its_place(tmp_path: Path, value: Any, reason: str) -> None:
    refused(tmp_path, [[[1, 2]], value], "validation.jsonl, row 2, column 'series'", reason)


def test_csv_has_no_series(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("series,label\n1 2,x\n3 4,y\n")
    with pytest.raises(InputError, match=r"in.csv, row 2, column 'series': a list of numbers expected"):
        load(series(tmp_path / "in.csv"), tmp_path / "cache")


def test_other_data_are_read_with_what_was_fitted(tmp_path: Path) -> None:
    data = loaded(tmp_path, drawn([3, 5]), drawn([4, 2], seed=1))
    known = Fitted.read(json.loads(json.dumps(data.record["fitted"])))
    known.check(series(tmp_path), data.sizes)
    again = load(series(tmp_path / "data"), tmp_path / "cache", known)
    both = [each.split("validation").gather(torch.arange(2)).inputs for each in (data, again)]
    assert torch.equal(*both)
    other = folder(tmp_path / "other", drawn([2, 2]), drawn([2, 2], features=3))
    with pytest.raises(InputError, match="3 features per time step; the first training example has 2"):
        load(series(other), tmp_path / "cache", known)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 3))
def test_packing_keeps_every_step(lengths: list[int], features: int) -> None:
    rows = [np.random.default_rng(i).normal(size=(length, features)) for i, length in enumerate(lengths)]
    arrays, longest, positions = packed({"train": rows}, np.float64, np.arange(features))
    assert longest == max(lengths)
    assert sum(length >= positions for length in lengths) >= min(16, len(lengths))
    assert positions == longest or sum(length > positions for length in lengths) < 16
    for row, length, padded in zip(rows, arrays["train.lengths"], arrays["train.inputs"], strict=True):
        np.testing.assert_array_equal(padded[:length], row)
        assert (padded[length:] == np.arange(features)).all()


@pytest.mark.parametrize("model", [LSTM, Transformer])
def test_padding_changes_no_prediction(tmp_path: Path, model: Any) -> None:
    data = loaded(tmp_path, drawn([3, 7, 2, 5]), drawn([4, 2], seed=1))
    options = {"layers": 1, "width": 16}
    torch.manual_seed(0)
    network = model(lambda features, layout, **_: LayerNorm(features, layout), data.sizes, **options).eval()
    train = data.split("train")
    whole = train.gather(torch.arange(4))
    together = network(whole.inputs, whole.mask)
    for i in range(4):
        alone = train.gather(torch.tensor([i]))
        assert alone.mask is None
        torch.testing.assert_close(together[i : i + 1], network(alone.inputs), atol=1e-6, rtol=1e-5)
