"""Parameter counts of the default models; a change of one must be meant.

`python tests/golden/test_parameter_counts.py` writes the counts of today.
"""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from normlab.config.schema import Sizes
from normlab.models.build import build_model

CONF = Path(__file__).parents[2] / "conf"
GOLDEN = Path(__file__).with_suffix(".json")
SIZES = {
    "cnn": Sizes("images", (1, 28, 28), outputs=10),
    "mlp": Sizes("images", (1, 28, 28), outputs=10),
    "gru": Sizes("tokens", (17,), outputs=14, vocabulary=28, positions=15),
    "lstm": Sizes("tokens", (17,), outputs=14, vocabulary=28, positions=15),
    "transformer": Sizes("tokens", (128,), outputs=96, vocabulary=96, positions=128, causal=True),
}
NORMS = ("none", "batch", "layer", "rms", "dyt")


def count(model: str, norm: str) -> int:
    nodes = [
        OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml")) for name in (f"norm/{norm}", f"model/{model}")
    ]
    with torch.device("meta"):
        built = build_model(*nodes, SIZES[model])
    return sum(parameter.numel() for parameter in built.parameters())


def counts() -> dict[str, dict[str, int]]:
    return {model: {norm: count(model, norm) for norm in NORMS} for model in SIZES}


def test_every_model_has_counts():
    assert {path.stem for path in (CONF / "model").glob("*.yaml")} == {*SIZES, "module"}


@pytest.mark.parametrize("model", SIZES)
def test_counts_are_the_recorded_ones(model):
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert {norm: count(model, norm) for norm in NORMS} == recorded[model]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(counts(), indent=2) + "\n", encoding="utf-8")
