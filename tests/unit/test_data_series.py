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
from normlab.data.store import prepare
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


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 1.7e9), (1e-50, 0.0), (1.0, -3e8)])
def test_what_float32_rounds_away_is_refused(tmp_path: Path, scale: float, offset: float) -> None:
    rows = [[[offset + scale * step, step] for step in range(start, start + 5)] for start in range(2)]
    refused(tmp_path, rows, "feature 1 of the series goes from", "subtract its least value", train=rows)


@pytest.mark.parametrize(("scale", "offset"), [(5.0, 101325.0), (0.0, 1.7e9 + 1), (0.0, 0.1), (1e-30, 0.0)])
def test_what_float32_can_tell_apart_is_taken(tmp_path: Path, scale: float, offset: float) -> None:
    rows = [[[offset + scale * step, step] for step in range(start, start + 5)] for start in range(2)]
    loaded(tmp_path, rows, rows)


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


def test_several_columns_are_the_channels(tmp_path: Path) -> None:
    a, b = drawn([3, 5, 4], 1), drawn([3, 5, 4], 1, seed=1)
    flat = [[[step[0] for step in row] for row in each] for each in (a, b)]
    path = parquet(tmp_path / "train.parquet", a=flat[0], b=flat[1], label=["x", "y", "x"]).parent
    parquet(path / "validation.parquet", a=flat[0], b=flat[1], label=["x", "y", "x"])
    data = load(series(path, input=["a", "b"]), tmp_path / "cache")
    assert data.sizes.shape == (5, 2)
    split = data.split("train")
    assert isinstance(split, Examples)
    assert split.inputs[1, :, 1].tolist() == flat[1][1]
    parquet(path / "validation.parquet", a=flat[0], b=[flat[1][1], *flat[1][1:]], label=["x", "y", "x"])
    with pytest.raises(InputError, match=r"row 1, column 'b': 5 time steps, and channel 'a' has 3"):
        load(series(path, input=["a", "b"]), tmp_path / "cache")


def test_arrays_of_numpy_have_lengths(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(12, 6, 3)).astype(np.float32)
    lengths = np.arange(12) % 6 + 1
    np.savez(tmp_path / "in.npz", series=values, label=np.array(["x", "y"] * 6), lengths=lengths)
    data = load(series(tmp_path / "in.npz"), tmp_path / "cache")
    split = data.split("train")
    assert isinstance(split, Examples)
    assert split.lengths is not None
    assert set(split.lengths.tolist()) <= set(range(1, 7))
    assert data.sizes.shape == (6, 3)
    np.savez(tmp_path / "long.npz", series=values, label=np.array(["x", "y"] * 6), lengths=lengths + 1)
    with pytest.raises(InputError, match="a length is 7, and 'series' has 6 steps"):
        load(series(tmp_path / "long.npz"), tmp_path / "cache")
    np.savez(tmp_path / "objects.npz", series=np.array([[1], [1, 2]], dtype=object), label=np.array(["x", "y"]))
    with pytest.raises(InputError, match="holds Python objects"):
        load(series(tmp_path / "objects.npz"), tmp_path / "cache")


def recordings(folder: Path, count: int = 8) -> Path:
    random = np.random.default_rng(0)
    rows = ["series,label"]
    for i in range(count):
        steps = random.normal(size=(i % 3 + 2, 2)).tolist()
        (folder / "rec").mkdir(parents=True, exist_ok=True)
        (folder / "rec" / f"{i}.csv").write_text("ax,ay\n" + "".join(f"{x!r},{y!r}\n" for x, y in steps))
        rows.append(f"rec/{i}.csv,{'xy'[i % 2]}")
    (folder / "train.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_table_may_name_a_file_for_each_recording(tmp_path: Path) -> None:
    config = series(recordings(tmp_path / "in"))
    found = prepare(config, tmp_path / "cache")
    assert found.material.sizes.shape == (4, 2)
    assert any("read 9 files" in note for note in found.notes)
    assert not any("ignored" in note for note in found.notes)
    path = tmp_path / "in" / "rec" / "3.csv"
    path.write_text(path.read_text().replace("\n", "\n9,9\n", 1))  # the table is as it was
    assert prepare(config, tmp_path / "cache").fingerprint != found.fingerprint
    path.write_text("ax,az\n1,2\n")
    with pytest.raises(InputError, match=r"3\.csv has no column 'ay'"):
        prepare(config, tmp_path / "cache")
    path.write_text("1,2\n3,4\n")
    with pytest.raises(InputError, match="no column 'ax'"):
        prepare(config, tmp_path / "cache")


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_an_index_of_a_recording_is_no_channel(tmp_path: Path, index: str) -> None:
    folder = recordings(tmp_path / "in")
    plain = prepare(series(folder), tmp_path / "cache")
    assert "data: 2 channels of each recording: ax, ay" in plain.notes
    for path in (folder / "rec").iterdir():
        header, *rows = path.read_text().splitlines()
        lines = [f"{index},{header}", *(f"{i},{row}" for i, row in enumerate(rows))]
        path.write_text("".join(f"{line}\n" for line in lines))
    assert prepare(series(folder), tmp_path / "cache").fingerprint == plain.fingerprint


def test_gaps_in_series_are_refused_or_filled(tmp_path: Path) -> None:
    rows = [[[1.0, 2.0], [3.0, None], [5.0, 4.0]], [[2.0, 3.0]], [[4.0, 6.0], [1.0, 1.0]]]
    path = tmp_path / "data"
    path.mkdir()
    for split in ("train", "validation"):
        lines = [json.dumps({"series": row, "label": label}) for row, label in zip(rows, "xyx", strict=True)]
        (path / f"{split}.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="row 1, column 'series'"):
        load(series(path), tmp_path / "cache")
    data = load(series(path, missing="mean"), tmp_path / "cache")
    train = data.split("train")
    assert isinstance(train, Examples)
    assert train.mean is not None
    np.testing.assert_allclose(train.mean.numpy(), [16 / 6, 16 / 5], rtol=1e-6)
    batch = train.gather(torch.tensor([0, 1]))
    assert batch.inputs[0, 1, 1] == 0
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True] * 3, [True, False, False]]
