"""Bad input: one message that says what is wrong, where, and what would be right."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_files import image_splits, images, language, parquet, raw_images, splits, task
from PIL import Image

from normlab.config.schema import InputError, TaskConfig
from normlab.data.load import load


def refused(own: TaskConfig, *expected: str) -> None:
    """Loading fails with a message of at most three lines that has all these words in it."""
    cache = Path(str(own.path)).parent / "cache"
    with pytest.raises(InputError) as caught:
        load(own, cache)
    message = str(caught.value)
    assert [part for part in expected if part not in message] == [], message
    assert message.count("\n") == 0
    assert not list(cache.glob("mine-*/"))


def write(content: bytes) -> Callable[[Path], Path]:
    def create(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return create


def test_missing_file(tmp_path: Path) -> None:
    refused(task(tmp_path / "none.csv"), "none.csv", "there is no such file or folder")


def test_unknown_extension(tmp_path: Path) -> None:
    path = write(b"x")(tmp_path / "data.xlsx")
    refused(task(path), "'.xlsx'", "accepted are .parquet .csv .jsonl")


@pytest.mark.parametrize("name", ["in.parquet", "in.csv", "in.jsonl", "in.txt"])
def test_empty_file(tmp_path: Path, name: str) -> None:
    refused(task(write(b"")(tmp_path / name)), name, "is empty")


def test_file_without_rows(tmp_path: Path) -> None:
    refused(task(write(b"text,label\n")(tmp_path / "in.csv")), "in.csv has no rows")
    refused(task(parquet(tmp_path / "in.parquet", text=[], label=[])), "in.parquet has no rows")


@pytest.mark.parametrize(
    ("name", "content", "reader"),
    [
        ("in.parquet", b"this is not Parquet", "parquet"),
        ("in.jsonl", b'{"text": "a", "label"', "json"),
        ("in.csv", b'text,label\n"a\nb', "csv"),
    ],
)
def test_corrupt_file(tmp_path: Path, name: str, content: bytes, reader: str) -> None:
    path = write(content)(tmp_path / name)
    refused(task(path), name, f"can't be read as {reader}")


def test_wrong_schema(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", words=["a"], label=[0])
    refused(task(path), "in.parquet", "no column 'text'", "it has: words, label", "task.input")


def test_the_file_of_a_split_is_named(tmp_path: Path) -> None:
    folder = splits(tmp_path / "in")
    parquet(folder / "test.parquet", text=["a"])
    with pytest.raises(InputError, match=r"test\.parquet has no column 'label'.*task\.target"):
        load(task(folder), tmp_path / "other").split("test")
    folder.joinpath("test.parquet").rename(folder / "validation.parquet")
    refused(task(folder), "validation.parquet", "no column 'label'", "task.target")


@pytest.mark.parametrize(
    ("labels", "row", "reason"),
    [
        ([0, 1, 0, -1], 4, "label -1 is out of range; class numbers are 0 to 2"),
        ([0, 1, 0, 7], 4, "label 7 is out of range; class numbers are 0 to 2"),
        (
            [1, 2, 1, 2],
            2,
            "label 2 is out of range; class numbers are 0 to 1 (by the training split)",
        ),
        ([0.0, 1.5, 0.0, 1.0], 1, "label 0.0 is not a whole number"),
        ([True, False, True, False], 1, "label True is not a whole number"),
        ([0, None, 1, 1], 2, "the value is missing"),
        (["x", None, "y", "y"], 2, "the value is missing"),
        ([3, 3, 3, 3], 1, "every training example has the label 3; classification needs at least two classes"),
        (["x"] * 4, 1, "every training example has the label 'x'"),
    ],
)
def test_labels(tmp_path: Path, labels: list, row: int, reason: str) -> None:
    path = parquet(tmp_path / "in.parquet", text=["a", "b", "c", "d"], label=labels)
    refused(task(path), f"in.parquet, row {row}, column 'label': {reason}")


@pytest.mark.parametrize(
    ("labels", "row", "reason"),
    [
        (["0", "1", "cat"], 3, "label 'cat' is not a whole number"),
        (["0", "1", ""], 3, "the value is missing"),
        (["0", "1", "1.0"], 3, "label '1.0' is not a whole number"),
    ],
)
def test_labels_of_csv(tmp_path: Path, labels: list[str], row: int, reason: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text,label\n" + "".join(f"a,{label}\n" for label in labels))
    refused(task(path), f"in.csv, row {row}, column 'label': {reason}")


def test_a_label_that_training_lacks(tmp_path: Path) -> None:
    folder = splits(tmp_path / "in")
    parquet(folder / "validation.parquet", text=["a", "b"], label=["x", "z"])
    refused(task(folder), "validation.parquet, row 2, column 'label'", "'z' is out of range; known are x, y")


def test_the_row_is_counted_within_its_file(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "train-00.parquet", text=["a"] * 3, label=["x", "y", "x"])
    parquet(tmp_path / "in" / "train-01.parquet", text=["a", None, "b"], label=["x", "y", "x"])
    refused(task(tmp_path / "in"), "train-01.parquet, row 2, column 'text': the value is missing")


def test_text_that_is_no_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", text=[1, 2], label=[0, 1])
    refused(task(path), "row 1, column 'text': text expected, found int 1")


def test_text_without_tokens(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", text=["a", " "] * 10, label=[0, 1] * 10)
    refused(task(path, view="words"), "row 2, column 'text': the text contains no tokens")


def test_too_long_a_sequence(tmp_path: Path) -> None:
    refused(
        task(splits(tmp_path / "in"), max_length=2),
        "train.parquet, row 3, column 'text': 3 characters",
        "set task.max_length=3, or task.truncate=true",
    )


def test_too_long_an_image(tmp_path: Path) -> None:
    folder = image_splits(tmp_path / "in")
    refused(images(folder, view="pixels", max_length=9), "16 time steps", "set task.max_length=16")


@pytest.mark.parametrize("value", [b"no image", b"\x89PNG\r\n\x1a\n and then nothing"])
def test_no_image(tmp_path: Path, value: bytes) -> None:
    path = parquet(tmp_path / "in.parquet", image=[*raw_images(2), value, *raw_images(1)], label=[0, 1, 0, 1])
    with pytest.raises(InputError, match=r"row 3, column 'image': \d+ bytes: this is not an image"):
        load(images(path, validation=0.01), tmp_path / "cache")


def test_image_column_of_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", image=["a"] * 4, label=[0, 1] * 2)
    refused(images(path), "an image expected, found str 'a'")


def test_image_of_another_size(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "in" / "train.parquet", image=raw_images(3), label=[0, 1, 0]).parent
    parquet(folder / "validation.parquet", image=[*raw_images(1), bytes(9)], label=[0, 1])
    refused(images(folder), "validation.parquet, row 2", "3 x 3 pixels, grey", "4 x 4 pixels, grey")


def picture(path: Path, colour: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3) if colour else (4, 4), np.uint8)).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())


def test_folder_without_classes(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "0.png")
    refused(images(tmp_path / "in"), "images named after classes")
    picture(tmp_path / "in" / "train" / "0.png")
    refused(images(tmp_path / "in"), "train has no folders in it: put the images of each class into a folder")


def test_folder_with_one_class(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "cat" / "0.png")
    refused(
        images(tmp_path / "in"), "row 1, column 'label'", "the label 'cat'; classification needs at least two classes"
    )


def test_class_without_images(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "cat" / "0.png")
    (tmp_path / "in" / "dog").mkdir()
    refused(images(tmp_path / "in"), "dog contains no images; accepted are .png .jpg")


def test_broken_image_file_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        picture(tmp_path / "in" / name / "0.png")
    (tmp_path / "in" / "dog" / "broken.jpg").write_bytes(b"no image")
    refused(images(tmp_path / "in", validation=0.01), "row 3, column 'image'", "dog/broken.jpg: this is not an image")


def test_image_that_is_not_where_the_file_says(tmp_path: Path) -> None:
    values = [{"bytes": None, "path": "gone.png"}] * 4
    path = parquet(tmp_path / "in.parquet", image=values, label=[0, 1, 0, 1])
    refused(images(path), "row", "gone.png can't be read: No such file")


def test_folder_without_training_split(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "test.parquet", text=["a"], label=[0])
    refused(task(tmp_path / "in"), "has no training split: add train.*")


def test_folder_with_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    refused(task(tmp_path / "in"), "neither files named after splits", "accepted are .parquet")


def test_split_that_is_missing(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in.parquet", text=["a", "b"] * 3, label=[0, 1] * 3)
    data = load(task(path), tmp_path / "cache")
    with pytest.raises(InputError, match="task=mine has no test split; it has: train, validation"):
        data.split("test")


def test_unknown_pack(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task\.pack=fashion: there is no pack 'fashion'\. Packs: author, emoji"):
        load(task(source="embedded", pack="fashion"), tmp_path)


def test_text_shorter_than_a_window(tmp_path: Path) -> None:
    path = write(b"abcdefgh")(tmp_path / "in.txt")
    refused(language(path, max_length=10), "fewer than one window of task.max_length=10")


def test_unwritable_cache(tmp_path: Path) -> None:
    own = task(splits(tmp_path / "in"))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cache=.*file can't be written: .* Choose another with cache=FOLDER"):
        load(own, tmp_path / "file")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, "source=path needs task.path"),
        ({"source": "hub", "path": None}, "source=hub needs task.hub"),
        ({"source": "embedded", "path": None}, "source=embedded needs task.pack"),
        ({"source": "embedded", "pack": "union"}, "task.path needs task.source=path"),
        ({"target": None}, "needs task.target"),
        ({"goal": "language_modelling"}, "needs task.max_length"),
        ({"goal": "language_modelling", "view": "images"}, "not task.view=images"),
        ({"view": "subwords"}, "needs task.vocabulary"),
    ],
)
def test_incomplete_task(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(**{"path": Path("in.csv"), **options})
