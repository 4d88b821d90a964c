"""What becomes of rows: images and their views, labelled texts, texts to model."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from data_files import image_splits, images, language, parquet, raw_images, splits, task
from PIL import Image

from normlab.config.schema import Sizes
from normlab.data.load import load
from normlab.data.splits import Examples, Windows
from normlab.views.images import permutation


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_images_are_standardised_by_the_training_split(tmp_path: Path) -> None:
    data = load(images(image_splits(tmp_path / "in")), tmp_path / "cache")
    assert data.sizes == Sizes("images", (1, 4, 4), 3, examples=20)
    assert data.classes == ("0", "1", "2")
    train, test = data.split("train"), data.split("test")
    batch = train.gather(train.in_order())
    assert batch.inputs.dtype == torch.float32
    assert batch.mask is None
    assert batch.inputs.mean().item() == pytest.approx(0, abs=1e-6)
    assert batch.inputs.std(unbiased=False).item() == pytest.approx(1, abs=1e-6)
    pixels = np.frombuffer(b"".join(raw_images(20, seed=0)), np.uint8)
    shown = np.frombuffer(raw_images(20, seed=2)[7], np.uint8)
    expected = (shown - pixels.mean()) / pixels.std()
    torch.testing.assert_close(
        test.gather(torch.tensor([7])).inputs.flatten(), torch.tensor(expected, dtype=torch.float32)
    )
    assert batch.targets.tolist() == [i % 3 for i in range(20)]


@pytest.mark.parametrize(("view", "shape"), [("rows", (4, 4)), ("pixels", (16, 1)), ("permuted_pixels", (16, 1))])
def test_images_as_sequences_show_the_same_pixels(tmp_path: Path, view: str, shape: tuple[int, int]) -> None:
    folder = image_splits(tmp_path / "in")
    whole = load(images(folder), tmp_path / "cache")
    data = load(images(folder, view=view), tmp_path / "cache")
    assert data.sizes == Sizes("features", shape, 3, positions=shape[0], shortest=shape[0], examples=20)
    index = torch.tensor([3, 0])
    sequence = data.split("validation").gather(index).inputs
    pixels = whole.split("validation").gather(index).inputs.reshape(2, 16)
    if view == "permuted_pixels":
        assert data.permutation is not None
        pixels = pixels[:, data.permutation]
    torch.testing.assert_close(sequence.reshape(2, 16), pixels)


def test_the_permutation_is_a_permutation_and_never_changes() -> None:
    order = permutation(784)
    assert sorted(order) == list(range(784))
    assert order[:5].tolist() == [318, 2, 606, 446, 758]


def test_rows_of_colour_images_hold_all_channels_of_each_column(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 4, 5, 3), np.uint8)
    path = parquet(tmp_path / "in.parquet", image=[png(each) for each in pixels], label=[0, 1] * 3)
    data = load(images(path, view="rows"), tmp_path / "cache")
    assert data.sizes.shape == (4, 15)
    train = data.split("train")
    assert isinstance(train, Examples)
    assert train.inputs[0].numpy().tolist() in pixels.reshape(6, 4, 15).tolist()
    shown = train.gather(train.in_order()).inputs.reshape(len(train), 4, 5, 3)
    torch.testing.assert_close(shown.mean((0, 1, 2)), torch.zeros(3), atol=1e-5, rtol=0)


def test_a_folder_of_images_names_its_classes(tmp_path: Path) -> None:
    for split, count in (("train", 4), ("test", 2)):
        for name, level in (("cat", 10), ("dog", 200)):
            folder = tmp_path / "in" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                grey = np.full((3, 5), level + i, np.uint8)
                (folder / f"{i}.png").write_bytes(png(grey))
    data = load(images(tmp_path / "in", validation=0.25), tmp_path / "cache")
    assert data.classes == ("cat", "dog")
    assert data.sizes == Sizes("images", (1, 3, 5), 2, examples=6)
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "validation": 2, "test": 4}
    test = data.split("test")
    assert isinstance(test, Examples)
    assert test.targets.tolist() == [0, 0, 1, 1]
    assert test.inputs[:, 0, 0, 0].tolist() == [10, 11, 200, 201]


def test_one_colour_image_makes_all_of_them_colour(tmp_path: Path) -> None:
    grey, colour = np.full((3, 5), 7, np.uint8), np.zeros((3, 5, 3), np.uint8)
    path = parquet(tmp_path / "in.parquet", image=[png(grey), png(colour), png(grey)], label=[0, 1, 0])
    train = load(images(path), tmp_path / "cache").split("train")
    assert isinstance(train, Examples)
    assert train.inputs.shape == (2, 3, 3, 5)


def test_an_encoded_image_is_never_taken_for_raw_pixels(tmp_path: Path) -> None:
    square = png(np.zeros((3, 5), np.uint8))
    while int(len(square) ** 0.5) ** 2 != len(square):
        square += b"\0"  # allowed after the end of a PNG
    path = parquet(tmp_path / "in.parquet", image=[square] * 4, label=[0, 1] * 2)
    assert load(images(path), tmp_path / "cache").sizes.shape == (1, 3, 5)


def test_texts_are_padded_to_the_longest_of_the_batch(tmp_path: Path) -> None:
    data = load(task(splits(tmp_path / "in")), tmp_path / "cache")
    assert data.sizes == Sizes("tokens", (3,), 2, vocabulary=5, positions=1, shortest=1, examples=6)
    assert data.vocabulary is not None
    assert data.vocabulary.pieces == ("<end>", "<unk>", "a", "b", "c")
    assert data.classes == ("x", "y")
    train = data.split("train")
    batch = train.gather(torch.tensor([0, 1]))
    assert batch.inputs.tolist() == [[2, 3], [3, 0]]
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True, True], [True, False]]
    assert train.gather(torch.tensor([2, 3])).mask is None
    assert data.split("validation").gather(torch.tensor([1])).inputs.tolist() == [[1, 3]]  # z is unknown
    assert data.vocabulary.decode(batch.inputs[1].tolist()) == "b"


def test_words_are_kept_by_frequency(tmp_path: Path) -> None:
    path = parquet(
        tmp_path / "in" / "train.parquet", text=["The cat's hat.", "the dog, the cat's"], label=["x", "y"]
    ).parent
    parquet(path / "validation.parquet", text=["the hat"], label=["x"])
    data = load(task(path, view="words", vocabulary=4), tmp_path / "cache")
    assert data.vocabulary is not None
    assert data.vocabulary.pieces == ("<end>", "<unk>", "the", "cat's")
    assert data.split("validation").gather(torch.tensor([0])).inputs.tolist() == [[2, 1]]
    assert data.vocabulary.decode([2, 1]) == "the <unk>"


def test_positions_are_those_that_sixteen_training_sequences_reach(tmp_path: Path) -> None:
    lengths = [9] * 15 + [7] + [2] * 20
    path = parquet(tmp_path / "in" / "train.parquet", text=["a" * n for n in lengths], label=["x", "y"] * 18).parent
    parquet(path / "validation.parquet", text=["a" * 12], label=["x"])
    sizes = load(task(path), tmp_path / "cache").sizes
    assert (sizes.positions, sizes.shape) == (7, (12,))


def test_longer_sequences_are_cut_where_that_is_asked_for(tmp_path: Path) -> None:
    data = load(task(splits(tmp_path / "in"), max_length=2, truncate=True), tmp_path / "cache")
    assert data.sizes.shape == (2,)
    assert data.split("train").gather(torch.tensor([2])).inputs.tolist() == [[2, 3]]


def test_labels_of_csv_are_numbers_or_names(tmp_path: Path) -> None:
    numbers, names = tmp_path / "numbers.csv", tmp_path / "names.csv"
    numbers.write_text("text,label\n" + "".join(f"null,{i % 11}\n" for i in range(22)))
    names.write_text("text,label\n" + "".join(f"null,{stress}\n" for stress in ("10", "010", "1") * 4))
    data = load(task(numbers), tmp_path / "cache")
    assert data.classes == tuple(map(str, range(11)))
    assert data.vocabulary is not None
    assert data.vocabulary.pieces[2:] == ("l", "n", "u")  # the word null is a word
    assert load(task(names), tmp_path / "cache").classes == ("010", "1", "10")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_file_types_give_the_same_data(tmp_path: Path, suffix: str) -> None:
    import pandas

    frame = pandas.DataFrame({"text": ["ab", "b", "abc", "cab"] * 5, "label": ["x", "y"] * 10})
    path = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    reference = parquet(tmp_path / "reference.parquet", text=frame["text"].tolist(), label=frame["label"].tolist())
    same = load(task(reference), tmp_path / "cache").fingerprint
    assert load(task(path), tmp_path / "cache").fingerprint == same


def test_files_of_a_split_may_lie_in_a_folder(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "train" / "a.parquet", text=["a", "b"], label=["x", "y"])
    parquet(tmp_path / "in" / "train" / "b.parquet", text=["c"], label=["x"])
    parquet(tmp_path / "in" / "valid.parquet", text=["c"], label=["x"])
    parquet(tmp_path / "in" / "trainer.parquet", text=["c"], label=["x"])  # another word
    data = load(task(tmp_path / "in"), tmp_path / "cache")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 3, "validation": 1}


def test_without_a_validation_split_rows_are_held_out_at_random(tmp_path: Path) -> None:
    sorted_by_class = parquet(tmp_path / "in.parquet", text=["a"] * 50 + ["b"] * 50, label=[0] * 50 + [1] * 50)
    data = load(task(sorted_by_class, validation=0.2), tmp_path / "cache")
    validation = data.split("validation")
    assert isinstance(validation, Examples)
    assert (len(data.split("train")), len(validation)) == (80, 20)
    assert 5 < validation.targets.sum() < 15


def test_a_text_is_one_stream_of_documents(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in" / "train.parquet", text=["abc", "de"]).parent
    parquet(path / "validation.parquet", text=["ax"])
    data = load(language(path), tmp_path / "cache")
    assert data.sizes == Sizes("tokens", (4,), 7, vocabulary=7, positions=4, causal=True, shortest=4, examples=2)
    train = data.split("train")
    assert isinstance(train, Windows)
    assert train.tokens.tolist() == [0, 2, 3, 4, 0, 5, 6, 0]
    assert data.characters == {"train": 7, "validation": 3}
    validation = data.split("validation")
    batch = validation.gather(validation.in_order())
    assert batch.inputs.tolist() == [[0, 2, 1, 0]]  # x is unknown; the last 0 is padding
    assert batch.targets[0, :3].tolist() == [2, 1, 0]
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True, True, True, False]]
    assert batch.total == 3


def test_the_end_of_a_text_is_held_out(tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    path.write_text("0123456789" * 10)
    data = load(language(path, validation=0.15), tmp_path / "cache")
    assert data.characters == {"train": 86, "validation": 16}
    assert data.vocabulary is not None
    validation = data.split("validation")
    assert isinstance(validation, Windows)
    assert data.vocabulary.decode(validation.tokens.tolist()) == "567890123456789"


def test_words_of_a_corpus_keep_its_own_tokens(tmp_path: Path) -> None:
    path = parquet(tmp_path / "in" / "train.parquet", text=[" = A = \n", "", " the <unk> @-@ b \n"]).parent
    parquet(path / "validation.parquet", text=["the"])
    data = load(language(path, view="words"), tmp_path / "cache")
    train = data.split("train")
    assert isinstance(train, Windows)
    assert data.vocabulary is not None
    assert data.vocabulary.pieces == ("<end>", "<unk>", "=", "@-@", "A", "b", "the")
    assert train.tokens.tolist() == [0, 2, 4, 2, 0, 0, 6, 1, 3, 5, 0]


def test_subwords_join_to_the_text_again(tmp_path: Path) -> None:
    documents = ["The cats sat.\n\nThe cat sat on 12 mats, the cat's  mat…", "A cat, a mat: the cats' mats."]
    path = parquet(tmp_path / "in" / "train.parquet", text=documents).parent
    parquet(path / "validation.parquet", text=["the mat sat; the cat ↯ the mat"])
    data = load(language(path, view="subwords", vocabulary=60), tmp_path / "cache")
    train, validation = data.split("train"), data.split("validation")
    assert isinstance(train, Windows)
    assert isinstance(validation, Windows)
    assert data.vocabulary is not None
    assert len(data.vocabulary) == data.sizes.outputs <= 60
    assert data.vocabulary.decode(train.tokens.tolist()) == "\n".join(documents)
    assert data.vocabulary.decode(validation.tokens.tolist()) == "the mat sat<unk> the cat <unk> the mat"
    assert len(train.tokens) < len("".join(documents))


def test_data_move_to_a_device(tmp_path: Path) -> None:
    for own in (images(image_splits(tmp_path / "images")), language(tmp_path / "in.txt")):
        (tmp_path / "in.txt").write_text("abcdefgh" * 8)
        data = load(own, tmp_path / "cache").to("cpu")
        batch = data.split("validation").gather(torch.tensor([0]))
        torch.testing.assert_close(batch.to("cpu").inputs, batch.inputs)


def test_integer_labels_with_names_keep_them(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["down", "up", "flat"])})
    Dataset.from_dict({"text": ["a", "b"] * 4, "label": [0, 1] * 4}, features).to_parquet(tmp_path / "in.parquet")
    data = load(task(tmp_path / "in.parquet"), tmp_path / "cache")
    assert data.classes == ("down", "up", "flat")
    assert data.sizes.outputs == 3


def test_images_as_the_hub_stores_them(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    values = [{"bytes": png(np.full((3, 3), i, np.uint8)), "path": None} for i in range(4)]
    path = parquet(tmp_path / "in.parquet", image=pa.array(values, kind), label=[0, 1, 0, 1])
    assert load(images(path), tmp_path / "cache").sizes.shape == (1, 3, 3)
