"""Tables of numbers, targets that are numbers, and rows that belong together."""

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
from pydantic import ValidationError
from torch import nn

from normlab.config.schema import InputError, OptimConfig, Sizes, TaskConfig
from normlab.config.task import decisive_options
from normlab.data.batch import Batch
from normlab.data.fitted import Fitted
from normlab.data.held_out import held_out
from normlab.data.load import load
from normlab.data.material import Builder
from normlab.data.splits import Examples
from normlab.data.store import prepare
from normlab.tasks.regression import Regression
from normlab.views import numbers
from normlab.views.columns import Column


def table(path: Path, **options: Any) -> TaskConfig:
    return task(path, **{"goal": "auto", "view": "table", "input": None, "target": "y", **options})


def csv(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def measured(count: int = 40, seed: int = 0) -> list[str]:
    random = np.random.default_rng(seed)
    return [
        f"{1.7e9 + x!r},{z!r},{2 * x + 5!r},p{i % 8}"
        for i, (x, z) in enumerate(random.normal(size=(count, 2)).tolist())
    ]


def column(values: list[Any], name: str = "x") -> Column:
    return Column(name, values, np.arange(len(values)), (("in.csv", len(values)),))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_written_as_text_are_read_exactly(values: list[float]) -> None:
    assert numbers.decode(column([repr(value) for value in values])).tolist() == values


def test_features_and_targets_are_standardised_by_training(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", "t,z,y,who", *measured())
    data = load(table(path, omit=["who"]), tmp_path / "cache")
    assert data.sizes == Sizes("table", (2,), 1, examples=36)
    train, validation = data.split("train"), data.split("validation")
    assert isinstance(train, Examples)
    raw, target = train.inputs.numpy(), train.targets.numpy()  # as in the file, in float64
    assert raw.dtype == target.dtype == np.float64
    batch = validation.gather(validation.in_order())
    assert isinstance(validation, Examples)
    expected = (validation.inputs.numpy() - raw.mean(0)) / raw.std(0)  # 1.7e9 ± 1 is beyond float32
    np.testing.assert_allclose(batch.inputs.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(
        batch.targets.numpy(), (validation.targets.numpy() - target.mean()) / target.std(), rtol=1e-5
    )
    assert data.target == pytest.approx((target.mean(), target.std()), rel=1e-12)
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float32, torch.float32)


def test_the_index_of_pandas_is_no_feature(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", ",a,y", *(f"{i},{i % 7},{i / 3}" for i in range(20)))
    assert load(table(path), tmp_path / "cache").record["fitted"]["columns"] == ["a"]


@pytest.mark.parametrize(
    ("values", "options", "classes", "said"),
    [
        ([0, 1, 2], {}, ("0", "1", "2"), "3 different whole numbers, which were read as classes"),
        ([3, 5, 8], {}, ("3", "5", "8"), "3 different whole numbers, which were read as classes"),
        (["1.0", "2", "3.0"], {}, ("1", "2", "3"), "3 different whole numbers"),
        ([0.5, 1, 2], {}, None, "3 different numbers: regression"),
        (list(range(30)), {}, None, "30 different numbers: regression"),
        ([0, 1, 2], {"goal": "regression"}, None, "target 'y' in training: 0 to 2"),
        (["a", "b", "c"], {}, ("a", "b", "c"), "is text: classification"),
        (["007", "008", "009"], {}, ("007", "008", "009"), "different whole numbers"),
    ],
)
def test_the_goal_of_a_table_is_said(tmp_path: Path, values: Any, options: Any, classes: Any, said: str) -> None:
    path = csv(tmp_path / "in.csv", "x,y", *(f"{i},{values[i % len(values)]}" for i in range(60)))
    found = prepare(table(path, **options), tmp_path / "cache")
    assert found.material.fitted.classes == classes
    assert any(said in note for note in found.notes)
    assert prepare(table(path, **options), tmp_path / "cache").notes == found.notes  # also from the cache


ROWS = [f"{i},{i * i % 7},{i / 3},{i % 4}" for i in range(40)]


@pytest.mark.parametrize(
    ("row", "options", "words"),
    [
        ("", {"target": "z"}, ["has no column 'z'", "a, b, y, g", "task.target"]),
        ("", {"groups": "z"}, ["has no column 'z'", "task.groups"]),
        ("", {"omit": ["z"]}, ["task.omit", "no column 'z'"]),
        ("1,red,2,0", {}, ["in.csv, row 41, column 'b': 'red' is not a number", "task.omit=[b]"]),
        ('1,"1,5",2,0', {}, ["row 41, column 'b': '1,5'", "decimal point"]),
        ("1,,2,0", {}, ["row 41, column 'b': the value is missing", "task.missing=mean"]),
        ("1,NaN,2,0", {}, ["row 41, column 'b': the value is missing"]),
        ("1,1e999,2,0", {}, ["row 41, column 'b': the number is infinite"]),
        ("1,1,,0", {"goal": "regression"}, ["row 41, column 'y': the value is missing"]),
        ("1,1,nan,0", {"goal": "regression", "missing": "mean"}, ["row 41, column 'y': the value is missing"]),
        ("1,1,high,0", {"goal": "regression"}, ["row 41, column 'y': task.goal=regression needs numbers", "'high'"]),
        ("", {"goal": "regression", "target": "c"}, ["no column 'c'"]),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, row: str, options: Any, words: list[str]) -> None:
    path = csv(tmp_path / "in.csv", "a,b,y,g", *ROWS, *([row] if row else []))
    with pytest.raises(InputError) as caught:
        load(table(path, **options), tmp_path / "cache")
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("column", ["a", "y"])
def test_whole_numbers_that_a_float_cannot_tell_apart_are_refused(tmp_path: Path, column: str) -> None:
    start = 2**53 + 1
    rows = [f"{row % 7},{start + row}" if column == "y" else f"{start + row},{row % 7}" for row in range(40)]
    with pytest.raises(InputError, match=rf"column '{column}': \d+ and \d+ have too many digits") as said:
        load(table(csv(tmp_path / "t.csv", "a,y", *rows)), tmp_path / "cache")
    assert "t.csv, row " in str(said.value)


def test_long_whole_numbers_that_stay_different_are_read(tmp_path: Path) -> None:
    csv(tmp_path / "t.csv", "a,y", *(f"{10**18 + 10**9 * row},{row % 7 + 0.5}" for row in range(30)))
    assert load(table(tmp_path / "t.csv"), tmp_path / "cache").split("train").inputs.std() > 0.5


def test_targets_that_do_not_differ_are_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", "a,y", *(f"{i},2.5" for i in range(20)))
    with pytest.raises(InputError, match=r"all are 2\.5|has the target 'y' = 2\.5"):
        load(table(path), tmp_path / "cache")
    for name, targets in (("train", range(20)), ("validation", [3, 3])):
        csv(tmp_path / "in" / f"{name}.csv", "a,y", *(f"{i},{y}" for i, y in enumerate(targets)))
    with pytest.raises(InputError, match="R² is not defined on the validation split"):
        load(table(tmp_path / "in", goal="regression"), tmp_path / "cache")


def test_targets_beyond_training_are_said(tmp_path: Path) -> None:
    for name, targets in (("train", range(20)), ("validation", [3, 99])):
        csv(tmp_path / "in" / f"{name}.csv", "a,y", *(f"{i},{y}" for i, y in enumerate(targets)))
    notes = prepare(table(tmp_path / "in", goal="regression"), tmp_path / "cache").notes
    assert "data: 1 of 2 validation targets are outside the range of training" in notes
    assert any("20, validation 2" in note for note in notes)


def test_missing_numbers_become_the_mean_where_that_is_asked_for(tmp_path: Path) -> None:
    rows = [f"{i},{'' if i == 4 else i * i},{i / 7}" for i in range(30)]
    path = csv(tmp_path / "in.csv", "a,b,y", *rows)
    found = prepare(table(path, missing="mean"), tmp_path / "cache")
    data = load(table(path, missing="mean"), tmp_path / "cache")
    values = torch.cat([split.gather(split.in_order()).inputs for split in data.splits.values()])
    assert int((values[:, 1].abs() < 1e-6).sum()) == 1
    assert values.isfinite().all()
    assert "data: 1 missing number, replaced by the mean of training" in found.notes


def test_test_rows_may_lie_in_another_place(tmp_path: Path) -> None:
    train = csv(tmp_path / "in.csv", "a,b,y,g", *ROWS)
    other = csv(tmp_path / "elsewhere" / "late.csv", "y,g,b,a", "1,0,2,3", "2,0,3,4")
    data = load(table(train, goal="regression", test=str(other)), tmp_path / "cache")
    test = data.split("test")
    assert isinstance(test, Examples)
    assert test.inputs.tolist() == [[3, 2, 0], [4, 3, 0]]  # by name, in the order of training
    for split in ("train", "test"):
        csv(tmp_path / "in" / f"{split}.csv", "a,b,y,g", *ROWS)
    with pytest.raises(InputError, match="has a test split of its own"):
        load(table(tmp_path / "in", test=str(other)), tmp_path / "cache")


@given(st.lists(st.integers(0, 9), min_size=2, max_size=60), st.floats(0.05, 0.95))
def test_rows_of_a_group_are_on_one_side_and_no_side_is_empty(groups: list[int], share: float) -> None:
    builder = Builder(table(Path("x")), None, [])
    if len(set(groups)) == 1:
        with pytest.raises(InputError, match="has one group"):
            held_out(len(groups), share, column(groups), builder)
        return
    kept, held = held_out(len(groups), share, column(groups), builder)
    assert sorted([*kept, *held]) == list(range(len(groups)))
    assert kept.size
    assert held.size
    assert not {groups[i] for i in kept} & {groups[i] for i in held}


def test_a_group_in_two_splits_is_refused_by_name(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", "t,z,y,who", *measured())
    options = {"groups": "who", "goal": "regression"}
    notes = prepare(table(path, **options), tmp_path / "cache").notes
    assert "data: groups by 'who': 7 in training, 1 held out for validation" in notes
    other = csv(tmp_path / "late.csv", "t,z,y,who", "1,2,3,new", "1,2,4,p3")
    with pytest.raises(InputError, match=r"late\.csv, row 2, column 'who': group 'p3' is in the train split too"):
        load(table(path, test=str(other), **options), tmp_path / "cache")


def test_classes_all_of_whose_rows_are_held_out_are_said(tmp_path: Path) -> None:
    rows = [f"{i},{i % 7},{group % 4},{group}" for i, group in enumerate(sorted([*range(4)] * 15))]
    path = csv(tmp_path / "in.csv", "t,z,y,who", *rows)
    notes = prepare(table(path, groups="who"), tmp_path / "cache").notes
    said = "data: the train split has no example of "
    assert len([note for note in notes if note.startswith(said)]) == 1
    other = csv(tmp_path / "two.csv", "t,z,y,who", *[row for row in rows if row[-1] in "01"])
    with pytest.raises(InputError, match=r"left for training have the label '[01]'.*other task.groups"):
        load(table(other, groups="who"), tmp_path / "cache")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"groups": "y"}, "task.groups=y is the target too"),
        ({"input": ["a", "y"]}, "task.target=y is in task.input"),
        ({"input": ["a", "a"]}, "task.input names 'a' twice"),
        ({"view": "words", "input": "a", "goal": "classification", "omit": ["b"]}, "task.omit leaves out columns"),
        ({"view": "words", "input": "a", "goal": "classification", "missing": "mean"}, "task.missing=mean fills"),
        ({"view": "words", "input": "a"}, "task.goal=auto is for tables"),
        ({"size": 8}, "task.size resizes images"),
        ({"classes_per_batch": 2}, "only classification has them"),
        ({"goal": "regression", "target": None}, "regression needs task.target"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        table(Path("in.csv"), **options)


def test_other_rows_are_read_with_what_was_fitted(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", "t,z,y,who", *measured())
    own = table(path, omit=["who"])
    data = load(own, tmp_path / "cache")
    known = Fitted.read(json.loads(json.dumps(data.record["fitted"])))
    known.check(own, data.sizes)
    other = tmp_path / "other"
    csv(other / "test.csv", "extra,y,z,t", "x,1,0,1.7e9", "x,2,1,1.7e9")
    test = load(table(other), tmp_path / "cache", known).split("test")
    assert isinstance(test, Examples)
    assert test.scale == data.target
    train = data.split("train")
    assert isinstance(train, Examples)
    expected = (np.array([[1.7e9, 0], [1.7e9, 1]]) - train.inputs.numpy().mean(0)) / train.inputs.numpy().std(0)
    np.testing.assert_allclose(test.gather(test.in_order()).inputs.numpy(), expected, rtol=1e-5)


def test_metrics_of_a_regression_are_in_the_unit_of_the_target() -> None:
    random = np.random.default_rng(0)
    actual, guess, mean, unit = random.normal(300, 20, 50), random.normal(300, 20, 50), 290.0, 25.0
    optim = OptimConfig(name="adamw", lr=0.1, weight_decay=0)
    task_ = Regression(nn.Linear(1, 1), Sizes("table", (1,), 1), optim, {}, unit=unit)
    for part in (slice(0, 30), slice(30, 50)):
        outputs = torch.tensor((guess[part] - mean) / unit).float()[:, None]
        targets = torch.tensor((actual[part] - mean) / unit).float()
        batch = Batch(torch.zeros(len(targets), 1), targets, None, len(targets))
        task_.collect(outputs, batch, task_.losses(outputs, batch))
    found = {name: float(value) for name, value in task_.metrics("validation").items()}
    errors = guess - actual
    spread = ((actual - actual.mean()) ** 2).sum()
    assert found["r2"] == pytest.approx(1 - (errors**2).sum() / spread, abs=1e-5)
    assert found["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-5)
    assert found["rmse"] == pytest.approx((errors**2).mean() ** 0.5, rel=1e-5)
    assert found["loss"] == pytest.approx((errors**2).mean() / unit**2, rel=1e-5)


@pytest.mark.parametrize("targets", [[0.5], [0.5, 0.5, 0.5]])
def test_where_the_targets_do_not_differ_there_is_no_r2(targets: list[float]) -> None:
    optim = OptimConfig(name="adamw", lr=0.1, weight_decay=0)
    task_ = Regression(nn.Linear(1, 1), Sizes("table", (1,), 1), optim, {}, unit=1.0)
    batch = Batch(torch.zeros(len(targets), 1), torch.tensor(targets), None, len(targets))
    outputs = torch.zeros(len(targets), 1)
    task_.collect(outputs, batch, task_.losses(outputs, batch))
    with pytest.raises(InputError, match=rf"not defined on the {len(targets)} validation rows"):
        task_.metrics("validation")


def test_true_and_false_are_numbers(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", a=[True, False, None] * 8, y=[i / 3 for i in range(24)])
    train = load(table(path, missing="mean"), tmp_path / "cache").split("train")
    assert isinstance(train, Examples)
    assert {0.0, 1.0} < set(train.inputs.flatten().tolist())


def test_options_that_were_added_later_change_no_id() -> None:
    plain = task(Path("x")).model_dump(mode="json")
    assert not {"groups", "omit", "missing", "size", "ignore", "test", "path"} & set(decisive_options(plain))
    grouped = task(Path("x"), groups="who").model_dump(mode="json")
    assert decisive_options(grouped)["groups"] == "who"


def test_any_view_may_have_a_number_as_its_target(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "in.parquet", text=["ab", "b", "abc", "cab", "a", "bb"] * 4, score=[i / 3 for i in range(24)]
    )
    data = load(task(path, goal="regression", target="score"), tmp_path / "cache")
    assert (data.sizes.kind, data.sizes.outputs, data.classes) == ("tokens", 1, None)
