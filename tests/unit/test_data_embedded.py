"""The embedded tasks as their YAML says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from normlab.config.schema import Sizes, TaskConfig
from normlab.data.load import Data, load
from normlab.data.splits import Examples

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
}


@pytest.mark.parametrize("name", PRINTS)
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


def test_author(cache: Path) -> None:
    data = load(configured("author"), cache)
    assert data.sizes.shape == (256,)
    assert data.sizes.vocabulary == 10_000
    assert data.classes is not None
    assert "austen" in data.classes
