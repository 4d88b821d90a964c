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


def counts(data: Data) -> list[int]:
    return [len(data.split(name)) for name in ("train", "validation", "test")]


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("fashion_mnist", Sizes("images", (1, 28, 28), 10)),
        ("fashion_rows", Sizes("features", (28, 28), 10, positions=28)),
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
