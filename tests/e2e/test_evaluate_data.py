"""A checkpoint knows its data: other data are evaluated with what was fitted at training, or refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from normlab.folder.jsonfile import read_json

WORDS = {"pos": ["good", "fine", "lovely", "great"], "neg": ["bad", "poor", "awful", "dire"]}


def only_run(output: Path) -> Path:
    (folder,) = (output / "runs").iterdir()
    return folder


def table(path: Path, count: int, names: tuple[str, str] = ("pos", "neg"), extra: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = list(zip(WORDS.values(), names, strict=True))
    rows = [(words[i // 2 % 4], name) for i in range(count) for words, name in [kinds[i % 2]]]
    path.write_text(
        "text,label\n" + "".join(f"the {word} film{extra} {i % 5},{n}\n" for i, (word, n) in enumerate(rows))
    )


def texts(folder: Path, **options: Any) -> Path:
    for split, count in (("train", 120), ("validation", 20), ("test", 20)):
        table(folder / f"{split}.csv", count, **options)
    return folder


@pytest.fixture
def learnt(train, tmp_path):
    """A checkpoint that is right about every text; where its data lie, and what evaluates it."""
    data = texts(tmp_path / "data")
    cache = f"cache={tmp_path / 'cache'}"
    common = (cache, "logger=none", "trainer.progress=false", "trainer.threads=1")
    task = (
        "task=text_files",
        f"task.path={data}",
        "task.batch_size=16",
        "trainer.epochs=6",
        "optim.lr=0.02",
        "test=true",
    )
    answer = train("model=lstm", "model.width=8", *task, *common, output=tmp_path / "trained")
    assert answer.status == 0, answer.err
    run = only_run(tmp_path / "trained")
    assert read_json(run / "summary.json")["test/accuracy"] == 1
    ckpt = run / "checkpoints" / "best.ckpt"

    def evaluate(*options: str):
        output = tmp_path / "evaluated"
        shutil.rmtree(output, ignore_errors=True)
        answer = train("measure=evaluate", f"ckpt={ckpt}", *common, *options, output=output)
        summary = read_json(only_run(output) / "summary.json") if answer.status == 0 else {}
        return answer, summary

    return data, ckpt, evaluate


def test_moved_rearranged_and_unknown_data_are_evaluated_as_at_training(learnt, tmp_path):
    data, _, evaluate = learnt
    moved = data.rename(tmp_path / "moved")
    answer, _ = evaluate()
    assert answer.status == 2
    assert f"are no longer at {data}: set task.path" in answer.err
    answer, summary = evaluate(f"task.path={moved}")
    assert (answer.status, summary["test/accuracy"]) == (0, 1), answer.err
    assert "differs" not in answer.out

    table(moved / "train.csv", 7, names=("neg", "other"))  # never read again
    table(moved / "test.csv", 12, extra=" никогда")  # with a word that training lacks
    answer, summary = evaluate(f"task.path={moved}")
    assert (answer.status, summary["test/accuracy"]) == (0, 1), answer.err
    assert "data: the test split differs from the one at training: 12 now, 20 then" in answer.out
    assert "validation split differs" not in answer.out

    (moved / "train.csv").unlink()
    (moved / "validation.csv").unlink()
    answer, summary = evaluate(f"task.path={moved}")
    assert (answer.status, summary["test/accuracy"]) == (0, 1), answer.err
    assert "there is no validation split" in answer.out


def test_renamed_labels_and_missing_labels_are_refused_by_name(learnt):
    data, _, evaluate = learnt
    texts(data, names=("accept", "reject"))
    answer, _ = evaluate()
    assert answer.status == 2
    assert "validation.csv, row 1, column 'label': label 'accept' is out of range; known are neg, pos" in answer.err
    texts(data)
    (data / "test.csv").write_text("text\nfine\n")
    answer, _ = evaluate()
    assert answer.status == 2
    assert "test.csv has no column 'label'" in answer.err


def test_a_checkpoint_without_record_is_refused(learnt):
    _, ckpt, evaluate = learnt
    old = torch.load(ckpt, weights_only=True)
    del old["normlab"]["data"]
    torch.save(old, ckpt)
    answer, _ = evaluate()
    assert answer.status == 2
    assert "was made by an earlier version and lacks the classes" in answer.err


@pytest.mark.slow
def test_images_are_standardised_as_at_training_and_of_its_size(train, tmp_path):
    def picture(path: Path, value: int, side: int = 8) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(value).integers(-8, 8, (side, side))
        Image.fromarray((value + noise).astype(np.uint8)).save(path)

    for split, count in (("train", 8), ("test", 8)):
        for name, value in (("dark", 60), ("light", 180)):
            for i in range(count):
                picture(tmp_path / "in" / split / name / f"{i}.png", value + i)
    common = (f"cache={tmp_path / 'cache'}", "logger=none", "trainer.progress=false", "trainer.threads=1")
    task = ("model=cnn", "model.width=8", "task=image_files", f"task.path={tmp_path / 'in'}", "task.batch_size=4")
    answer = train(*task, "trainer.epochs=6", *common, output=tmp_path / "trained")
    assert answer.status == 0, answer.err
    ckpt = only_run(tmp_path / "trained") / "checkpoints" / "best.ckpt"
    evaluate = ("measure=evaluate", f"ckpt={ckpt}", *common)

    only = tmp_path / "only"
    for i in range(6):  # one class alone: statistics of its own would make it grey
        picture(only / "test" / "light" / f"{i}.png", 180 + i)
    answer = train(*evaluate, f"task.path={only}", output=tmp_path / "one")
    assert answer.status == 0, answer.err
    assert read_json(only_run(tmp_path / "one") / "summary.json")["test/accuracy"] == 1
    picture(only / "test" / "light" / "7.png", 180, side=9)
    answer = train(*evaluate, f"task.path={only}", output=tmp_path / "two")
    assert answer.status == 2
    assert "the image has 9 x 9 pixels, grey; the training images have 8 x 8 pixels, grey" in answer.err


def test_a_test_that_cannot_be_had_is_refused_before_training(train, tmp_path):
    folder = texts(tmp_path / "in")
    (folder / "test.csv").write_text("text\nfine\n")
    common = ("model=lstm", "model.width=8", "task=text_files", f"task.path={folder}", "trainer.steps=2", "logger=none")
    answer = train(*common, f"cache={tmp_path / 'cache'}", "test=true", output=tmp_path / "tested")
    assert answer.status == 2
    assert "the test split can't be used: " in answer.err
    assert not list((tmp_path / "tested").glob("runs/*"))
    answer = train(*common, f"cache={tmp_path / 'cache'}", output=tmp_path / "trained")
    assert answer.status == 0, answer.err
    assert "data: the test split is ignored because it can't be used: " in answer.out
