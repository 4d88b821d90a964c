"""Tables are read column by column, as requested; nothing is guessed."""

from __future__ import annotations

import codecs
import gzip
import json
import os
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
from data_files import images, language, parquet, task

from normlab.config.schema import InputError
from normlab.data.load import load
from normlab.data.store import prepare
from normlab.files.tables import Part, read_table

ASKED = {"text": "input", "label": "target"}


def read(path: Path, content: str | bytes) -> Part:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, ASKED)


def texts(path: Path, content: str | bytes) -> list[str]:
    part = read(path, content)
    assert set(part.values["label"]) <= {"x", "y"}
    return list(part.values["text"])


def refused(path: Path, content: str | bytes, *expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read(path, content)
    message = str(caught.value)
    assert [part for part in (str(path), *expected) if part not in message] == [], message
    assert "\n" not in message
    assert len(message) < 700


def test_csv_values_stay_as_written(tmp_path: Path) -> None:
    written = ["007", "NA", "null", "1e5", "2021-03-01", " a ", "TRUE", "1,5", 'say "no"', "two\nlines", "5.0", "nan"]
    rows = "".join('"{}",x\n'.format(text.replace('"', '""')) for text in written)
    assert texts(tmp_path / "in.csv", "text,label\n" + rows) == written


def test_csv_rows_that_all_end_in_a_comma_are_read(tmp_path: Path) -> None:
    for end in (",", ",,"):
        content = f"text,label,fold\na b,x,0{end}\nc,y,1{end}\n"
        assert texts(tmp_path / "in.csv", content) == ["a b", "c"]
    assert texts(tmp_path / "in.csv", "text,label,\na,x,\nb,y,\n") == ["a", "b"]
    assert texts(tmp_path / "in.csv", "text,label,\na,x\nb,y\n") == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "fields"), [("good, but slow,x", 3), ("a", 1), ("a,x,", 3), ("a,x,,", 4), ("one, two,,x", 4)]
)
def test_csv_rows_with_another_number_of_fields_are_refused(tmp_path: Path, row: str, fields: int) -> None:
    refused(tmp_path / "in.csv", f"text,label\nfine,x\n{row}\n", f"row 2: {fields} fields, but the header has 2")


def test_csv_with_an_unclosed_quote_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "in.csv", 'text,label\na,x\n"b,y\nc,x\n', "row 2", "a double quote is never closed")


def test_csv_separators_are_those_that_give_the_columns(tmp_path: Path) -> None:
    for name, separator in [("in.csv", ";"), ("in.csv", "\t"), ("in.tsv", "\t"), ("in.tab", ","), ("in.csv", ",")]:
        rows = [("text", "label"), ("a" if separator == "," else "a,b", "x")]
        content = "\r\n".join(separator.join(row) for row in rows)
        assert texts(tmp_path / name, content) == [rows[1][0]]


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "in.csv", "text,label,text\na,x,b\n", "2 columns 'text'")
    refused(tmp_path / "in.csv", "text,label,fold,fold\na,x,b\n", "row 1: 3 fields")


def test_a_column_that_nobody_uses_decides_nothing(tmp_path: Path) -> None:
    rows = "".join(f"w,x,{i if i < 12000 else 'n/k'}\n" for i in range(12100))
    assert len(texts(tmp_path / "in.csv", "text,label,code\n" + rows)) == 12100
    objects = [{"text": "a", "label": "x", "other": other} for other in (1, "b", [2], {"c": None}, None)]
    assert texts(tmp_path / "in.jsonl", "\n".join(map(json.dumps, objects))) == ["a"] * 5
    unused = {
        "day": [date(2021, 3, 1)] * 2,
        "price": [Decimal("1.5")] * 2,
        "tags": [["a"], []],
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    }
    path = parquet(tmp_path / "in.parquet", text=["a", "b"], label=["x", "y"], **unused)
    assert list(read_table(path, ASKED).values["text"]) == ["a", "b"]


def test_many_columns_are_no_burden(tmp_path: Path) -> None:
    many = ",".join(f"c{i}" for i in range(100_000))
    assert texts(tmp_path / "in.csv", f"text,{many},label\na,{many},x\n") == ["a"]
    refused(tmp_path / "in.csv", f"{many}\n{many}\n", "no column 'text'", "(100000 in all)")


@pytest.mark.parametrize("texts_", [["2021-03-01", "2021-03-02"], ["12", "007"], ["true", "null"], ["{}", "[1]"]])
def test_json_texts_stay_as_written(tmp_path: Path, texts_: list[str]) -> None:
    rows = [{"text": text, "label": "x"} for text in texts_]
    assert texts(tmp_path / "in.jsonl", "\n".join(map(json.dumps, rows))) == texts_
    assert texts(tmp_path / "in.json", json.dumps(rows, indent=1)) == texts_


def test_a_number_among_json_texts_is_refused_alone(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": t, "label": "xy"[i % 2]}) + "\n" for i, t in enumerate(["a", "b", 5])))
    with pytest.raises(InputError, match=r"in\.jsonl, row 3, column 'text': text expected, found int 5"):
        load(task(path), tmp_path / "cache")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"text": "a", "label": "x"}\n{"text": "b", "la', "row 2: can't be read as json"),
        ('{"text": "a", "label": "x"}\n["b", "x"]', "row 2: an object"),
        ("[" * 100_000, "row 1: can't be read as json: nested too deeply"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", "row 1: can't be read as json"),
        ('{"words": "a"}', "no column 'text'; it has: words (set task.input"),
    ],
)
def test_json_that_is_none_is_refused_by_row(tmp_path: Path, content: str, reason: str) -> None:
    refused(tmp_path / "in.jsonl", content, reason)


def test_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a", "label": "x"}\n{"text": "\\ud800", "label": "y"}\n')
    with pytest.raises(InputError, match="row 2, column 'text': an unpaired surrogate"):
        load(task(path), tmp_path / "cache")


@pytest.mark.parametrize("labels", [["0.13", "0.27", "1"], [".5", "1e3", "2."], ["-1.5", "1.5", "1.25"]])
def test_labels_that_are_real_numbers_are_refused(tmp_path: Path, labels: list[str]) -> None:
    path = tmp_path / "in.csv"
    path.write_text("text,label\n" + "".join(f"a,{label}\n" for label in labels))
    with pytest.raises(InputError, match=r"in\.csv, row 1, column 'label': label .* is a real number, not a class"):
        load(task(path), tmp_path / "cache")
    path.write_text("text,label\n" + "".join(f"a,v{label}\n" for label in labels * 4))
    assert load(task(path), tmp_path / "cache").classes == tuple(sorted(f"v{label}" for label in labels))


def test_files_may_number_the_same_classes_differently(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    for split, names in (("train", ["down", "up"]), ("validation", ["up", "down"])):
        features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
        (tmp_path / "in").mkdir(exist_ok=True)
        rows = {"text": ["d", "u"], "label": [names.index("down"), names.index("up")]}
        Dataset.from_dict(rows, features).to_parquet(tmp_path / "in" / f"{split}.parquet")
    data = load(task(tmp_path / "in"), tmp_path / "cache")
    assert data.classes == ("down", "up")
    assert [data.split(split).targets.tolist() for split in ("train", "validation")] == [[0, 1], [0, 1]]  # type: ignore[union-attr]


ENCODINGS = [
    ("utf-8", b""),
    ("utf-8", codecs.BOM_UTF8),
    ("utf-16-le", codecs.BOM_UTF16_LE),
    ("utf-16-be", codecs.BOM_UTF16_BE),
    ("utf-32-le", codecs.BOM_UTF32_LE),
]


@pytest.mark.parametrize(("encoding", "mark"), ENCODINGS)
@pytest.mark.parametrize("compressed", [False, True])
def test_encodings_are_utf8_or_what_the_mark_says(tmp_path: Path, encoding: str, mark: bytes, compressed: bool) -> None:
    def packed(content: str) -> bytes:
        content_ = mark + content.encode(encoding)
        return gzip.compress(content_) if compressed else content_

    end = ".gz" if compressed else ""
    assert texts(tmp_path / f"in.csv{end}", packed("text,label\nnaïve,x\n")) == ["naïve"]
    assert texts(tmp_path / f"in.jsonl{end}", packed('{"text": "naïve", "label": "x"}')) == ["naïve"]
    (tmp_path / f"in.txt{end}").write_bytes(packed("naïve\r\ntext"))
    (document,) = read_table(tmp_path / f"in.txt{end}", {"text": "input"}).values["text"]
    assert document == "naïve\ntext"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("in.csv", "text,label\nnaïve,x\n".encode("latin-1"), "byte 13 (0xef) is not UTF-8"),
        ("in.csv", codecs.BOM_UTF8 + b"text,label\n" + b"a,x\n" * 9999 + b"\xff,x\n", f"byte {14 + 4 * 9999} (0xff)"),
        ("in.jsonl", b'{"text": "\x80"}', "byte 10 (0x80)"),
        ("in.csv", "text,label\na,x\n".encode("utf-16-le"), "NUL characters"),
        ("in.csv", b"text,label\na\0b,x\n", "NUL characters"),
        ("in.csv.gz", gzip.compress(b"text,label\n" + b"a,x\n" * 1998, mtime=0)[:-9], "the compressed file is damaged"),
        ("in.csv.gz", b"text,label\na,x\n", "the compressed file is damaged"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_place(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    refused(tmp_path / name, content, reason)


def test_a_mark_never_enters_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_bytes(codecs.BOM_UTF8 + b"abcdef" * 20)
    vocabulary = load(language(path), tmp_path / "cache").vocabulary
    assert vocabulary is not None
    assert vocabulary.pieces[2:] == tuple("abcdef")


def test_a_path_is_text_and_no_pattern(tmp_path: Path) -> None:
    for name in ("data1.csv", "ab.csv", "axxb.csv"):
        (tmp_path / name).write_text("text,label\n" + "wrong,x\nwrong,y\n" * 5)
    for name in ("data[1].csv", "a*b.csv", "a?b.csv", "zip::a.csv", "{a}.csv", "$HOME.csv", "o'brien.csv", "~.csv"):
        with pytest.raises(InputError, match="there is no such file"):
            load(task(tmp_path / name), tmp_path / "cache")
        (tmp_path / name).write_text("text,label\n" + "r,x\nr,y\n" * 5)
        vocabulary = load(task(tmp_path / name), tmp_path / "cache").vocabulary
        assert vocabulary is not None
        assert vocabulary.pieces[2:] == ("r",)


def test_a_leading_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "in.csv").write_text("text,label\n" + "r,x\nr,y\n" * 5)
    assert load(task(Path("~/in.csv")), tmp_path / "cache").classes == ("x", "y")


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "device.csv").symlink_to("/dev/zero")
    (tmp_path / "in").mkdir()
    os.mkfifo(tmp_path / "in" / "train.csv")
    for path in (tmp_path / "pipe.csv", tmp_path / "device.csv", tmp_path / "in"):
        with pytest.raises(InputError, match="is a pipe, device, socket or folder, not a regular file"):
            load(task(path), tmp_path / "cache")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="has neither files named after splits"):
        load(task(tmp_path / "folder.csv"), tmp_path / "cache")


def test_a_huge_empty_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "in.csv").open("wb") as file:
        file.truncate(5 * 10**9)
    with monkeypatch.context() as context:
        context.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2e9))
        with pytest.raises(InputError, match=r"has 5\.0 GB, but this machine has only 2\.0 GB free"):
            load(task(tmp_path / "in.csv"), tmp_path / "cache")
    with (tmp_path / "in.csv").open("wb") as file:
        file.truncate(2**22)
    with pytest.raises(InputError, match="NUL characters"):
        load(task(tmp_path / "in.csv"), tmp_path / "cache")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("text,label\na,x\n")
    (tmp_path / "in.csv").chmod(0)
    with pytest.raises(InputError, match=r"in\.csv can't be read: Permission denied"):
        load(task(tmp_path / "in.csv"), tmp_path / "cache")


def test_a_test_split_without_labels_waits_until_it_is_asked_for(tmp_path: Path) -> None:
    rows = "a,x\nb,y\n" * 5
    for content, reason in [
        ("text\na\n", "has no column 'label'"),
        ("text,label\na,\n", "row 1, column 'label': the value is missing"),
        ("text,label\na,z\n", "label 'z' is out of range"),
        ("", "is empty"),
    ]:
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        (folder / "train.csv").write_text("text,label\n" + rows)
        (folder / "test.csv").write_text(content)
        data = load(task(folder), tmp_path / "cache")
        assert list(data.splits) == ["train", "validation"]
        with pytest.raises(InputError, match=f"the test split can't be used: .*test.csv.*{reason}"):
            data.split("test")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("name", ["in.csv", "in.jsonl", "in.parquet", "in.npz"])
def test_a_file_that_git_lfs_has_not_fetched_is_named(tmp_path: Path, name: str) -> None:
    refused(tmp_path / name, POINTER, "a pointer of Git LFS", "`git lfs pull`")
    read(tmp_path / "about.csv", "text,label\nversion https://git-lfs.github.com/spec/v1,a\nb,b\n")


def test_an_image_that_git_lfs_has_not_fetched_is_named(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "1.png").write_bytes(POINTER)
    with pytest.raises(InputError, match=r"1\.png is a pointer of Git LFS"):
        prepare(images(tmp_path / "in"), tmp_path / "cache")
