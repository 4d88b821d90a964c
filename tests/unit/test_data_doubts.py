"""Data that can be read, and are probably not what they are taken for: refused, or said."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import image_splits, images, language, parquet, task
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.config.schema import InputError, TaskConfig
from normlab.data.store import prepare
from normlab.views.columns import Column
from normlab.views.doubts import check_number_like

ROWS = 60
X = np.random.default_rng(0).normal(size=ROWS).round(4).tolist()


def table(path: Path, **options: Any) -> TaskConfig:
    return task(path, **{"view": "table", "input": None, "target": "y", "goal": "auto", **options})


def csv(path: Path, header: str, rows: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row}\n" for row in [header, *rows]), encoding="utf-8")
    return path


def refused(made: TaskConfig, folder: Path, *words: str) -> None:
    with pytest.raises(InputError) as caught:
        prepare(made, folder / "cache")
    assert [word for word in words if word not in str(caught.value)] == [], caught.value


def notes(made: TaskConfig, folder: Path) -> str:
    return "\n".join(prepare(made, folder / "cache").notes)


@pytest.mark.parametrize(
    ("shown", "first"),
    [
        (lambda i: "NA" if i == 6 else f"{i * 1.7:.1f}", "row 7, column 'y': 'NA'"),
        (lambda i: "?" if i == 3 else str(i), "row 4, column 'y': '?'"),
        (lambda i: f'"{i * 1.7 + 0.5:.1f}"'.replace(".", ","), "row 1, column 'y': '0,5'"),
        (lambda i: f'"{i * 1700:,}"', "row 2, column 'y': '1,700'"),
        (lambda i: f"{i * 1.7:.1f} %", "row 1, column 'y': '0.0 %'"),
        (lambda i: f"${i}", "row 1, column 'y': '$0'"),
    ],
)
def test_numbers_in_another_notation_are_no_classes(tmp_path: Path, shown: Any, first: str) -> None:
    path = csv(tmp_path / "in.csv", "x,y", [f"{X[i]},{shown(i)}" for i in range(ROWS)])
    refused(table(path), tmp_path, first, "is not a number, as most targets are")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("abc", min_size=1), min_size=1), st.lists(st.sampled_from(["1", "2,5", "NA"]), min_size=1))
def test_names_and_few_different_values_may_be_classes(names: list[str], few: list[str]) -> None:
    for values in (names, few, [*names, *few]):
        check_number_like(Column("y", values, np.arange(len(values)), (("in.csv", len(values)),)))


@pytest.mark.parametrize("name", ["a text of its own {}", "2024-01-{}", "id{}"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_labels_that_hardly_repeat_are_no_classes(tmp_path: Path, name: str, suffix: str) -> None:
    rows = [("ab"[i % 2], name.format(i)) for i in range(ROWS)]
    path = csv(tmp_path / "in.csv", "text,label", [",".join(row) for row in rows])
    if suffix == "jsonl":
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    refused(task(path), tmp_path, "60 rows have 60 different labels", "row 1, column 'label'")
    half = [("ab"[i % 2], name.format(i % 30)) for i in range(ROWS)]
    prepare(task(csv(tmp_path / "in.csv", "text,label", [",".join(row) for row in half])), tmp_path / "cache")


def test_labels_that_differ_in_spaces_are_refused_and_in_case_said(tmp_path: Path) -> None:
    rows = [f"w{i},{('spam', 'ham', 'Spam', 'n/a')[i % 4]}" for i in range(ROWS)]
    said = notes(task(csv(tmp_path / "in.csv", "text,label", rows)), tmp_path)
    assert "differ only in case: Spam, spam" in said
    assert "perhaps a missing label: 'n/a'" in said
    rows[5] = "w5,ham "
    refused(task(csv(tmp_path / "in.csv", "text,label", rows)), tmp_path, "row 6", "'ham' and 'ham ' differ only in")
    lines = [{"x": X[i], "y": ("a b", "a  b")[i % 2]} for i in range(ROWS)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    refused(table(tmp_path / "in.jsonl"), tmp_path, "differ only in spaces")


@pytest.mark.parametrize(("name", "start"), [("Id", 1), ("index", 0), ("row_no", 1), ("PassengerId", 1)])
def test_a_number_of_the_row_is_no_feature(tmp_path: Path, name: str, start: int) -> None:
    columns = {name: list(range(start, start + ROWS)), "x": X, "y": ["abc"[i // 20] for i in range(ROWS)]}
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path = csv(tmp_path / "in.csv", f"{name},x,y", rows)
    for place in (path, parquet(tmp_path / "in.parquet", **columns)):
        refused(table(place), tmp_path, f"column {name!r}: this column numbers the rows", f"task.omit=[{name}]")
        for options in ({"omit": [name]}, {"input": [name, "x"]}):
            assert prepare(table(place, **options), tmp_path / "cache").material.counts()["train"] == 54
    shuffled = csv(tmp_path / "in.csv", f"{name},x,y", path.read_text().splitlines()[:0:-1])
    assert f"2 features: {name}, x" in notes(table(shuffled), tmp_path)
    csv(path, "hours,x,y", path.read_text().splitlines()[:0:-1])
    assert f"the feature 'hours' numbers the rows, {start}, {start + 1}, " in notes(table(path), tmp_path)


def test_an_index_that_pandas_read_and_wrote_again_is_no_feature(tmp_path: Path) -> None:
    rows = [f"{i},{i},{X[i]},{i // 20}" for i in range(ROWS)]
    path = csv(tmp_path / "in.csv", "Unnamed: 0.1,Unnamed: 0,x,y", rows)
    assert prepare(table(path), tmp_path / "cache").material.fitted.columns == ("x",)


def test_examples_that_training_has_too_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    csv(folder / "train.csv", "text,label", [f"text {i},{i % 2}" for i in range(ROWS)])
    assert "same input" not in notes(task(folder), tmp_path)
    shutil.copy(folder / "train.csv", folder / "train (1).csv")  # downloaded twice
    said = notes(task(folder), tmp_path)
    assert "12 of 12 validation examples have the same input as a training example" in said
    (folder / "train (1).csv").rename(folder / "test.csv")
    assert "54 of 60 test examples have the same input as a training example" in notes(task(folder), tmp_path)
    pictures = image_splits(tmp_path / "pictures")
    assert "same input" not in notes(images(pictures), tmp_path)
    shutil.copy(pictures / "train.parquet", pictures / "test.parquet")
    assert "20 of 20 test examples have the same input" in notes(images(pictures), tmp_path)


@pytest.mark.parametrize("hidden", ["yes\u200b", "\ufeffyes", "y\u00ades"])
def test_labels_that_differ_in_what_nobody_sees_are_refused(tmp_path: Path, hidden: str) -> None:
    path = csv(tmp_path / "in.csv", "x,y", [f"{X[i]},{(hidden, 'no', 'yes')[i % 3]}" for i in range(ROWS)])
    refused(table(path), tmp_path, "labels ", ascii(hidden), "differ only in spaces or characters that show nothing")


def test_labels_of_one_number_are_said(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", "x,y", [f"{X[i]},{('01', '1', '2')[i % 3]}" for i in range(ROWS)])
    assert "classes that are the same number: 01, 1" in notes(table(path), tmp_path)


def test_a_numbered_column_may_start_anywhere_if_it_is_named_so(tmp_path: Path) -> None:
    for name in ("uid", "customer_id"):
        rows = [f"{1000 + i},{X[i]},{'abc'[i // 20]}" for i in range(ROWS)]
        refused(table(csv(tmp_path / "in.csv", f"{name},x,y", rows)), tmp_path, "numbers the rows, 1000, 1001, 1002")
    assert "numbers the rows" not in notes(table(csv(tmp_path / "in.csv", "year,x,y", rows)), tmp_path)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_numbers_without_a_deviation_are_refused(tmp_path: Path, scale: float) -> None:
    rows = [f"{x * scale},{x},{'ab'[x > 0]}" for x in X]
    refused(table(csv(tmp_path / "in.csv", "far,x,y", rows)), tmp_path, "column 'far' goes from", "scale its values")
    series = [[[x * scale, x], [x, -x]] for x in X]
    path = parquet(tmp_path / "in.parquet", series=series, label=["ab"[x > 0] for x in X])
    options = {"view": "series", "input": "series", "goal": "classification", "target": "label"}
    if scale > 1:  # in single precision, in which series are kept, the smaller ones are 0
        refused(table(path, **options), tmp_path, "series")


def test_names_of_columns_with_spaces_are_shown_with_them(tmp_path: Path) -> None:
    path = csv(tmp_path / "in.csv", "x , y", [f"{x},{'ab'[x > 0]}" for x in X])
    refused(table(path), tmp_path, "it has: 'x ', ' y'")


@pytest.mark.parametrize("again", ["text,label", "\ufefftext,label"])
def test_the_header_of_a_joined_file_is_no_row(tmp_path: Path, again: str) -> None:
    rows = [f"w{i},{'ab'[i % 2]}" for i in range(ROWS)]
    path = csv(tmp_path / "in.csv", "text,label", [*rows, again, *rows])
    refused(task(path), tmp_path, "in.csv, row 61: the header again, as in files that were joined")
    lone = csv(tmp_path / "words.csv", "text", ["a text", "text", "of words"] * 9)  # in which it may be a word
    prepare(language(lone), tmp_path / "cache")


def grouped(folder: Path, *names: object) -> TaskConfig:
    rows = [f"w{i},{'ab'[i % 2]},{names[i % len(names)]}" for i in range(ROWS)]
    return task(csv(folder / "in.csv", "text,label,who", rows), groups="who")


@pytest.mark.parametrize("other", ["P1 ", "P1\u200b"])
def test_groups_that_look_the_same_are_refused(tmp_path: Path, other: str) -> None:
    refused(grouped(tmp_path, "P1", "P2", other), tmp_path, "row 3, column 'who': groups 'P1' and", "differ only in")


def test_groups_that_differ_in_case_or_notation_are_said(tmp_path: Path) -> None:
    said = notes(grouped(tmp_path, "Ann", "Bob", "ann", "01", "1", "n/a"), tmp_path)
    assert "data: groups that differ only in case: Ann, ann\n" in said
    assert "data: groups that are the same number: 01, 1\n" in said
    assert "data: read as a group of its own, and perhaps a missing name: 'n/a'\n" in said
    many = notes(grouped(tmp_path, *(f"{letter}{i}" for i in range(7) for letter in "pP")), tmp_path)
    assert many.count("groups that differ only in case") == 5
    assert "2 more groups of that kind" in many


def test_two_forms_of_a_group_are_one(tmp_path: Path) -> None:
    with_cedilla = grouped(tmp_path, "Fran\u00e7ois", "Fra" + "nc\u0327ois", "Ann")
    assert "groups by 'who': 1 in training, 1 held out" in notes(with_cedilla, tmp_path)


def test_groups_are_the_same_in_csv_and_parquet(tmp_path: Path) -> None:
    columns = {"text": [f"w{i}" for i in range(ROWS)], "label": ["a", "b"] * 30}
    for who in ([i % 4 for i in range(ROWS)], [float(i % 4) for i in range(ROWS)]):
        parquet(tmp_path / "in" / "train.parquet", **columns, who=who)
        csv(tmp_path / "in" / "train.csv", "text,label,who", ["w,a,1", "v,b,2"])
        (tmp_path / "in" / "train.csv").replace(tmp_path / "in" / "train-more.csv")
        assert "groups by 'who': 3 in training, 1 held out" in notes(task(tmp_path / "in", groups="who"), tmp_path)
        (tmp_path / "in" / "train-more.csv").replace(tmp_path / "in" / "test.csv")
        refused(task(tmp_path / "in", groups="who"), tmp_path, "test.csv, row 1", "group '1' is in the train split too")
        (tmp_path / "in" / "test.csv").unlink()
    parquet(tmp_path / "in" / "train.parquet", **columns, who=[math.nan if i == 4 else 1.0 for i in range(ROWS)])
    refused(task(tmp_path / "in", groups="who"), tmp_path, "row 5, column 'who'", "missing (or NaN)")


def picture_folders(folder: Path, *names: str) -> TaskConfig:
    from PIL import Image

    for seed, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.random.default_rng(10 * seed + i).integers(0, 256, (4, 4), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return images(folder)


def test_folders_of_classes_that_look_the_same_are_refused_and_case_is_said(tmp_path: Path) -> None:
    assert "classes that differ only in case: Cat, cat" in notes(
        picture_folders(tmp_path / "a", "Cat", "cat", "dog"), tmp_path
    )
    for place, other in (("b", "cat "), ("c", "cat\u200b")):
        refused(picture_folders(tmp_path / place, "cat", other), tmp_path, "'cat' and", "differ only in spaces or char")


def test_classes_without_an_example_are_said(tmp_path: Path) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(ROWS)]
    path = csv(tmp_path / "in.csv", "text,label", [*rows, "rare,c"])
    assert "data: the validation split has no example of 1 of the 3 classes: c" in notes(task(path), tmp_path)
    path = csv(tmp_path / "few.csv", "text,label", [f"text {i},{'abcdefghij'[i % 10]}" for i in range(12)])
    said = notes(task(path, validation=0.5), tmp_path)
    assert "data: the train split has no example of 5 of the 10 classes, as all are held out: c, e, f, h, j" in said
    folder = tmp_path / "in"
    csv(folder / "train.csv", "text,label", rows)
    csv(folder / "test.csv", "text,label", ["one,a", "two,a"])
    assert "data: the test split has no example of 1 of the 2 classes: b" in notes(task(folder), tmp_path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_that_names_splits_is_said_not_to_be_heeded(tmp_path: Path, suffix: str) -> None:
    columns = {"text": [f"w{i}" for i in range(ROWS)], "label": ["a", "b"] * 30}
    path = tmp_path / f"in.{suffix}"
    for names, said in ((["train", "Val", "test"], True), (["train"] * 3, False), (["a", "b", "test"], False)):
        full = columns | {"split": [names[i % 3] for i in range(ROWS)]}
        rows = [dict(zip(full, row, strict=True)) for row in zip(*full.values(), strict=True)]
        if suffix == "parquet":
            parquet(path, **full)
        elif suffix == "csv":
            csv(path, ",".join(full), [",".join(row.values()) for row in rows])
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        line = "the column 'split' names splits (train 20, validation 20, test 20), and is not heeded"
        assert (line in notes(task(path), tmp_path)) == said
