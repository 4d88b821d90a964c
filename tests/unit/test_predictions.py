"""Tables of predictions, by models whose answers are known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from normlab.config.schema import Sizes
from normlab.data.load import Data
from normlab.data.splits import Examples, Windows
from normlab.mirror.predictions import SHOWN, class_names, sample_predictions
from normlab.views.text import Vocabulary


class Fixed(nn.Module):
    """Gives the same logits to every example and position."""

    def __init__(self, logits, positions=False):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))
        self.positions = positions

    def forward(self, inputs, mask=None):
        assert not self.training
        assert not inputs.is_floating_point() or inputs.dtype == self.logits.dtype
        shape = (*inputs.shape[:2], -1) if self.positions else (len(inputs), -1)
        return self.logits.expand(*shape)


def images(count=30, channels=1):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(256, (count, channels, 4, 5), dtype=torch.uint8, generator=generator)
    targets = torch.arange(count) % 3
    split = Examples(inputs, targets, mean=torch.zeros(channels, 1, 1), std=torch.ones(channels, 1, 1))
    return Data("made up", Sizes("images", (channels, 4, 5), 3), {"validation": split}, "", "", ("a", "b", "c"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_of_images(dtype):
    data = images()
    samples = sample_predictions(Fixed([0.0, 2.0, 1.0]).to(dtype), data)
    assert samples.columns == ["image", "actual", "predicted", "probability", "right"]
    assert len(samples.rows) == SHOWN
    picture, actual, predicted, probability, right = samples.rows[1]
    assert np.array_equal(picture, data.split("validation").inputs[1, 0].numpy())
    assert (actual, predicted, right) == ("b", "b", True)
    assert probability == pytest.approx(float(torch.tensor([0.0, 2.0, 1.0]).softmax(0)[1]))
    assert samples.rows[0][4] is False


def test_colours_come_last():
    samples = sample_predictions(Fixed([0.0, 1.0, 2.0]), images(channels=3))
    assert samples.rows[0][0].shape == (4, 5, 3)


def test_classes_without_names_are_numbers():
    data = images()
    assert class_names(data) == ["a", "b", "c"]
    assert class_names(replace(data, classes=None)) == ["0", "1", "2"]


VOCABULARY = Vocabulary(("", "?", "\n", "x", "y", "z"))


def test_of_texts_without_their_padding():
    inputs = torch.tensor([[3, 4, 5], [4, 4, 0]])
    split = Examples(inputs, torch.tensor([0, 1]), lengths=torch.tensor([3, 2]))
    data = Data(
        name="made up",
        sizes=Sizes("tokens", (3,), 2, 6),
        splits={"validation": split},
        fingerprint="",
        source="",
        classes=("no", "yes"),
        vocabulary=VOCABULARY,
    )
    samples = sample_predictions(Fixed([0.0, 1.0]), data)
    assert samples.columns[0] == "text"
    assert [row[:3] for row in samples.rows] == [["xyz", "no", "yes"], ["yy", "yes", "yes"]]


def test_of_a_language_model_the_last_token_of_each_window():
    tokens = torch.tensor([3, 4, 5, 3, 4, 5, 4])
    sizes = Sizes("tokens", (4,), 6, 6, causal=True)
    data = Data("made up", sizes, {"validation": Windows(tokens, 4)}, "", "", vocabulary=VOCABULARY)
    logits = [0.0, 0.0, 0.0, 0.0, 3.0, 0.0]
    samples = sample_predictions(Fixed(logits, positions=True), data)
    assert [row[:3] for row in samples.rows] == [["xyzx", "y", "y"], ["yz", "y", "y"]]
    assert samples.rows[0][3] == samples.rows[0][4] == pytest.approx(float(torch.tensor(logits).softmax(0)[4]))
