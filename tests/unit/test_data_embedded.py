"""The embedded tasks as their YAML says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from normlab.config.schema import InputError, Sizes, TaskConfig
from normlab.data.load import Data, load
from normlab.data.splits import Examples
from slowly import some

CONF = Path(__file__).parents[2] / "conf"


def configured(name: str) -> TaskConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return TaskConfig(**OmegaConf.to_container(compose(f"task/{name}").task, resolve=True))  # type: ignore[arg-type]


PRINTS = {  # the ids of all runs on them hang on these
    "word_stress": "42879d9449bb0404d77ad2c1128f129eeb03e956d91e8385156bcec4f1485322",
    "union": "6ae31e36fc976a742d3a88f7173f01ee05787d25db08e14d7851c1ab7278aa67",
    "author": "daba6bae9ef06268b364415accd513b6e2d189c8509ac99c7f6cecd3bc57df4f",
    "fashion_mnist": "e684230952eeea3e4a8705dcc2eb981cc5aee837abc8f8f5d5462836cf675cf6",
    "fashion_rows": "3e78d2605567325afc69393fa85379ee1cd02f4ff16430f07c4a04fbe5695952",
    "mnist1d": "75df4098b31c049465086f0f91f7d2aa5b9dd2847bd6494dd7f79d8204f3eb9d",
    "wrist_motion": "bbab1627c24530ab5be0d64cb6c9cbc18296d9520b569564fdda69dfb16f1a5d",
    "emoji": "8e83b5cd791fb46be82299714662c7e37b3ff5b93c270e9622fc0a1868d9fb3b",
    "emoji_shift": "c0ba3a627aaaaee33db75978a25acb9cbc6b6b114173abddb8becd57b8453da9",
}


@pytest.mark.parametrize("name", some(PRINTS))
def test_the_content_never_changes(cache: Path, name: str) -> None:
    assert load(configured(name), cache).fingerprint == PRINTS[name]


def counts(data: Data) -> list[int]:
    return [len(data.split(name)) for name in ("train", "validation", "test")]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("fashion_mnist", Sizes("images", (1, 28, 28), 10, examples=16_000)),
        ("fashion_rows", Sizes("features", (28, 28), 10, positions=28, shortest=28, examples=16_000)),
    ],
)
def test_fashion(cache: Path, name: str, sizes: Sizes) -> None:
    data = load(configured(name), cache)
    assert data.sizes == sizes
    assert counts(data) == [16_000, 4_000, 10_000]
    train = data.split("train")
    assert train.gather(train.in_order()).inputs.mean().item() == pytest.approx(0, abs=1e-4)


def test_word_stress(cache: Path) -> None:
    data = load(configured("word_stress"), cache)
    assert data.classes is not None
    assert "010" in data.classes
    assert (data.sizes.outputs, data.sizes.shape) == (14, (17,))
    for split in data.splits.values():
        assert isinstance(split, Examples)
        assert split.lengths is not None
        assert split.lengths.min() >= 1
    assert counts(data)[0] > 8 * max(counts(data)[1:]) * 0.9


def test_union(cache: Path) -> None:
    data = load(configured("union"), cache)
    assert data.sizes.causal
    assert data.characters is not None
    assert 0.04 < data.characters["validation"] / sum(data.characters.values()) < 0.07
    assert data.vocabulary is not None
    assert data.sizes.outputs == len(data.vocabulary) < 128


@pytest.mark.slow
def test_author(cache: Path) -> None:
    data = load(configured("author"), cache)
    assert data.sizes.shape == (256,)
    assert data.sizes.vocabulary == 10_000
    assert data.classes is not None
    assert "austen" in data.classes


@pytest.mark.parametrize(
    ("name", "sizes", "numbers"),
    [
        ("mnist1d", Sizes("features", (40, 1), 10, positions=40, shortest=40, examples=3_200), [3_200, 800, 1_000]),
        (
            "wrist_motion",
            Sizes("features", (100, 6), 7, positions=100, shortest=51, examples=1_398),
            [1_398, 526, 524],
        ),
        ("emoji", Sizes("images", (3, 32, 32), 8, examples=1_026), [1_026, 351, 259]),
        ("emoji_shift", Sizes("images", (3, 32, 32), 8, examples=1_026), [1_026, 351, 259]),
    ],
)
def test_series_and_emoji(cache: Path, name: str, sizes: Sizes, numbers: list[int]) -> None:
    data = load(configured(name), cache)
    assert data.sizes == sizes
    assert counts(data) == numbers
    batch = data.split("train").gather(data.split("train").in_order())
    real = batch.inputs if batch.mask is None else batch.inputs[batch.mask]
    assert real.mean().item() == pytest.approx(0, abs=1e-4)
    assert (real**2).mean().item() == pytest.approx(1, abs=1e-4)


def test_the_shift_changes_only_the_test_drawings(cache: Path) -> None:
    google, shift = load(configured("emoji"), cache), load(configured("emoji_shift"), cache)
    for split in ("train", "validation", "test"):
        one, other = (data.split(split).gather(data.split(split).in_order()) for data in (google, shift))
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.inputs, other.inputs) == (split != "test")


@pytest.mark.parametrize(
    ("pack", "reason"),
    [
        ("nothing", "there is no pack 'nothing'. Packs: author, emoji, emoji_twitter, fashion_mnist, mnist1d, union"),
        ("emoji+emojy", "there is no pack 'emojy'"),
        ("emoji_twitter", "task.pack=emoji_twitter has only test: give it after another pack"),
    ],
)
def test_packs_that_make_no_task_are_refused(cache: Path, pack: str, reason: str) -> None:
    with pytest.raises(InputError, match=re.escape(reason)):
        load(configured("emoji").model_copy(update={"pack": pack}), cache)
