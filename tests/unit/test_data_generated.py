"""For generated files: the right result or one clear line. And each row of docs/own-files.md has its test."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from data_files import images, task
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from normlab.config.schema import InputError
from normlab.data.load import load
from normlab.files.folders import find
from normlab.files.pictures import PictureError, read_picture
from normlab.files.tables import read_table

ROOT = Path(__file__).parents[2]
ASKED = {"text": "input", "label": "target"}
FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ROWS = st.lists(st.tuples(FIELDS.filter(bool), st.sampled_from("xy"), FIELDS), min_size=1, max_size=6)
CSV_LIKE = st.text(',;"\n\r\tatexbl ', max_size=60).map(lambda text: f"text,label\n{text}".encode())
few = settings(max_examples=60, deadline=None, derandomize=True)


def check_line(error: Exception) -> None:
    assert "\n" not in str(error)
    assert 10 < len(str(error)) < 900


@few
@given(
    rows=ROWS,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n"]),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    extra=st.integers(0, 2),
)
def test_any_csv_that_the_library_writes_is_read_as_it_was(rows, quoting, end, separator, encoding, extra) -> None:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerow(["text", "label", "other"])
    writer.writerows([*row, *[""] * extra] for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_bytes(file.getvalue().encode(encoding))
        part = read_table(path, ASKED)
    assert list(zip(part.values["text"], part.values["label"], strict=True)) == [row[:2] for row in rows]


@few
@given(
    content=st.binary(max_size=80) | st.text(',;"\n\r\tatexbl ', max_size=60).map(lambda t: f"text,label\n{t}".encode())
)
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.json", "in.tsv.gz", "in.parquet", "in.txt"])
def test_any_bytes_are_read_or_refused_in_a_line(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            part = read_table(path, ASKED if name != "in.txt" else {"text": "input"})
        except InputError as error:
            check_line(error)
        else:
            assert len(part) > 0


@few
@given(rows=ROWS, other=st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=4))
def test_any_json_is_read_as_it_was(rows, other) -> None:
    objects = [{"other": other, "text": text, "label": label} for text, label, _ in rows]
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("in.jsonl", "\n".join(map(json.dumps, objects))), ("in.json", json.dumps(objects))):
            (Path(folder) / name).write_text(content)
            assert list(read_table(Path(folder) / name, ASKED).values["text"]) == [text for text, _, _ in rows]


VALUES = st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text("a1.é", max_size=3)


@few
@given(values=st.lists(VALUES, min_size=4, max_size=9))
def test_any_labels_become_classes_or_a_line(values) -> None:
    rows = [json.dumps({"text": "a b", "label": value}) for value in values]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        path.write_text("\n".join(rows))
        try:
            classes = load(task(path, validation=0.3), Path(folder) / "cache").classes
        except InputError as error:
            check_line(error)
        else:
            assert classes is not None
            if all(isinstance(value, str) for value in values):
                assert set(classes) == {unicodedata.normalize("NFC", value) for value in values}
            else:
                assert classes == tuple(map(str, range(len(set(values)))))


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]
KINDS = ["PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG"]


@few
@given(mode=st.sampled_from(MODES), kind=st.sampled_from(KINDS), seed=st.integers(0, 99), cut=st.floats(0.1, 1))
def test_any_image_is_seen_or_refused_in_a_line(mode, kind, seed, cut) -> None:
    random = np.random.default_rng(seed)
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(random.integers(0, 60000, (5, 7)).astype({"I;16": "u2", "I": "i4", "F": "f4"}[mode]))
    else:
        image = Image.fromarray(random.integers(0, 255, (5, 7, 4), np.uint8), "RGBA").convert(mode)
    file = io.BytesIO()
    try:
        image.save(file, kind)
    except (OSError, ValueError):  # the format has no such mode
        return
    whole = file.getvalue()
    try:
        picture = read_picture(whole[: int(len(whole) * cut)])
    except PictureError as error:
        assert cut < 1
        check_line(error)
    else:
        assert picture.pixels.shape[0] in (1, 3)
        assert picture.pixels.shape[1:] == (5, 7)


NAMES = st.sampled_from(["train", "test", "valid", "cat", "dog", "__MACOSX", "test-tube", ".git"])
FILES = st.sampled_from(["1.png", "2.jpg", "._1.png", "README.md", "train.csv", "Thumbs.db"])


@few
@given(paths=st.sets(st.tuples(NAMES, st.one_of(st.none(), NAMES), FILES), min_size=1, max_size=8))
def test_any_folder_is_laid_out_in_full_or_refused_in_a_line(paths) -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = {Path(folder, *(part for part in path if part)) for path in paths}
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
        try:
            layout = find(Path(folder), pictures=True)
        except InputError as error:
            check_line(error)
        else:
            used = [path for found in layout.splits.values() for path in found]
            assert sorted([*used, *layout.passed]) == sorted(files)  # nothing is left out without a word
            assert not [path for path in used if path.suffix not in (".png", ".jpg") or path.name.startswith(".")]


@few
@given(sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=2, max_size=3))
def test_any_sizes_make_one_array_or_a_line(sizes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for i, size in enumerate(sizes):
            path = Path(folder, "in", f"class{i}", "0.png")
            path.parent.mkdir(parents=True)
            Image.new("L", size).save(path)
        try:
            data = load(images(Path(folder, "in"), validation=0.3), Path(folder, "cache"))
        except InputError as error:
            check_line(error)
            alone = "left for training" in str(error)  # of two pictures one is held out
            assert alone or len(set(sizes)) > 1
        else:
            widths, heights = zip(*sizes, strict=True)
            assert data.sizes.shape[1] in heights  # the median is one of them
            assert data.sizes.shape[2] in widths


def test_each_line_of_the_documentation_has_its_test() -> None:
    text = (ROOT / "docs" / "own-files.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    named = [line.strip("| ").split("|")[-1].strip() for line in lines if "| test |" not in line]
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*/test_*.py"))
    known = set(re.findall(r"^def (test_\w+)\(", written, re.M))
    assert len(named) > 50
    assert [name for name in named if name not in known] == []
