"""Users' folders: what is a split, what is a class, and what is ignored."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from data_files import images, task
from PIL import Image

from normlab.config.schema import InputError
from normlab.data.load import load
from normlab.data.store import prepare
from normlab.files.folders import Layout, find


def tree(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in (".csv", ".tsv"):
            file.write_text("text,label\n" + "a,x\nb,y\n" * 5)
        elif file.suffix == ".gz":
            file.write_bytes(gzip.compress(b"text,label\na,x\nb,y\n"))
        elif file.suffix in (".png", ".jpg", ".jfif", ".gif", ".bmp"):
            Image.fromarray(np.zeros((4, 4), np.uint8)).save(file, "JPEG" if file.suffix == ".jfif" else None)
        else:
            file.write_text("something else")
    return root


def found(layout: Layout) -> dict[str, list[str]]:
    return {split: [layout.relative(path) for path in paths] for split, paths in layout.splits.items()}


def passed(layout: Layout) -> list[str]:
    return [layout.relative(path) for path in layout.passed]


@pytest.mark.parametrize(
    "names", [("car", "train", "bus"), ("beaker", "test-tube"), ("valid", "invalid"), ("airport", "train_station")]
)
def test_a_class_may_be_called_like_a_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = tree(tmp_path / "in", *(f"{name}/{i}.png" for name in names for i in range(4)))
    data = load(images(root), tmp_path / "cache")
    assert data.classes == tuple(sorted(names))
    assert list(data.splits) == ["train", "validation"]


def test_folders_are_splits_where_all_are_named_so_and_hold_classes(tmp_path: Path) -> None:
    root = tree(
        tmp_path, *(f"{split}/{name}/1.png" for split in ("Train", "val", "testing") for name in ("a", "train"))
    )
    tree(root, "docs/README.md")
    layout = find(root, pictures=True)
    assert found(layout) == {
        "train": ["Train/a/1.png", "Train/train/1.png"],
        "validation": ["val/a/1.png", "val/train/1.png"],
        "test": ["testing/a/1.png", "testing/train/1.png"],
    }
    assert layout.labels["test"] == ["a", "train"]
    assert passed(layout) == ["docs/README.md"]


@pytest.mark.parametrize(
    ("paths", "reason"),
    [
        (["train/a/1.png", "car/1.png"], "is .*train a split or a class"),
        (["train/a/1.png", "test/b/1.png", "extra/1.png"], "is .*t a split or a class|is .*train a split or a class"),
        (["train/1.png", "test/1.png"], "has no folders in it: put the images of each class into a folder"),
        (["cat/train/1.png", "dog/train/1.png"], "split folders must contain the class folders, as in train/cat"),
        (["test/a/1.png", "validation/a/1.png"], "has no training split"),
        (["notes.md"], "has neither files named after splits"),
    ],
)
def test_what_may_be_a_split_or_a_class_is_asked_not_guessed(tmp_path: Path, paths: list[str], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        find(tree(tmp_path, *paths), pictures=True)


def test_images_of_all_types_and_depths_are_read(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "in", "cat/1.png", "cat/2.jfif", "cat/more/3.jpg", "dog/a/b/4.gif", "dog/5.bmp", "dog/6.txt", "7.png"
    )
    layout = find(root, pictures=True)
    assert found(layout) == {"train": ["cat/1.png", "cat/2.jfif", "cat/more/3.jpg", "dog/5.bmp", "dog/a/b/4.gif"]}
    assert layout.labels["train"] == ["cat"] * 3 + ["dog"] * 2
    assert passed(layout) == ["7.png", "dog/6.txt"]


def test_tables_of_all_types_and_places_are_read(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "in",
        "train-a.csv",
        "train-b.tsv",
        "reviews_train.csv.gz",
        "train/c.csv",
        "dev.csv",
        "TEST.csv",
        "other.csv",
        "train/README.txt",
    )
    layout = find(root, pictures=False)
    assert found(layout) == {
        "train": ["reviews_train.csv.gz", "train-a.csv", "train-b.tsv", "train/c.csv"],
        "validation": ["dev.csv"],
        "test": ["TEST.csv"],
    }
    assert passed(layout) == ["other.csv", "train/README.txt"]
    assert len(load(task(root), tmp_path / "cache").split("train")) == 32


def test_one_table_in_two_formats_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.csv and train\.csv\.gz look like the same table"):
        find(tree(tmp_path, "train.csv", "train.csv.gz"), pictures=False)


def test_a_table_named_by_two_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train_test\.csv: the name says test and train"):
        find(tree(tmp_path, "train_test.csv"), pictures=False)


def test_a_readme_hides_no_images(tmp_path: Path) -> None:
    root = tree(tmp_path, "train/README.txt", "train/LICENSE.txt", "train/a/1.png", "train/b/1.png")
    layout = find(root, pictures=True)
    assert len(layout.splits["train"]) == 2
    assert passed(layout) == ["train/LICENSE.txt", "train/README.txt"]


@pytest.mark.parametrize(
    "junk", ["__MACOSX/cat/._0.png", "cat/._0.png", ".DS_Store", "cat/Thumbs.db", ".git/x.png", "dog/desktop.ini"]
)
def test_what_systems_leave_is_passed_over(tmp_path: Path, junk: str) -> None:
    layout = find(tree(tmp_path, "cat/0.png", "dog/0.png", junk), pictures=True)
    assert found(layout) == {"train": ["cat/0.png", "dog/0.png"]}
    assert passed(layout) == [junk]
    assert layout.passed_over() == f"ignored 1 file: {junk}"


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    tree(tmp_path, "cat/0.png", "dog/0.png")
    (tmp_path / "dog" / "x.png").symlink_to("nowhere.png")
    with pytest.raises(InputError, match=r"dog/x\.png is a link to nowhere\.png, which does not exist"):
        find(tmp_path, pictures=True)


def test_links_to_folders_are_followed_but_in_no_circle(tmp_path: Path) -> None:
    tree(tmp_path, "elsewhere/0.png", "in/cat/0.png")
    (tmp_path / "in" / "dog").symlink_to(tmp_path / "elsewhere")
    assert found(find(tmp_path / "in", pictures=True)) == {"train": ["cat/0.png", "dog/0.png"]}
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link to a folder that contains it"):
        find(tmp_path / "in", pictures=True)


def test_a_run_says_what_it_read_and_what_not(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", *(f"{name}/{i}.png" for name in ("cat", "dog") for i in range(5)), "README.md")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(root / "cat" / "deep.png")
    for _ in range(2):  # built, and from the cache
        assert prepare(images(root), tmp_path / "cache").notes == (
            "data: read 11 files; examples: train 10, validation 1 (held out of train); 2 classes: cat, dog",
            "data: the validation split has no example of 1 of the 2 classes: dog",
            "data: 1 of 1 validation examples have the same input as a training example",
            "data: 1 image with more than 8 bits: scaled to 8",
            "data: ignored 1 file: README.md",
        )
    (root / "NEW.md").write_text("")
    assert prepare(images(root), tmp_path / "cache").notes[-1] == "data: ignored 2 files: NEW.md, README.md"


def test_an_evaluation_needs_no_training_split(tmp_path: Path) -> None:
    root = tree(tmp_path, "test.csv")
    assert found(find(root, pictures=False, training=False)) == {"test": ["test.csv"]}
    with pytest.raises(InputError, match="has no training split"):
        find(root, pictures=False)
