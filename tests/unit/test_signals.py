"""Numbers that describe a signal, where they are known."""

from __future__ import annotations

import math

import pytest
import torch

from normlab.probes.signals import cosine, dead_share, rms, stable_rank


def test_rms() -> None:
    assert float(rms(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))) == pytest.approx(2.5)


def test_cosine_of_examples() -> None:
    assert cosine(torch.eye(4).view(4, 2, 2)) == pytest.approx(0, abs=1e-6)
    assert cosine(torch.tensor([[1.0, 1.0], [2.0, 2.0], [5.0, 5.0]])) == pytest.approx(1)
    assert cosine(torch.tensor([[1.0, 0.0], [1.0, math.sqrt(3)]])) == pytest.approx(0.5)
    assert math.isnan(cosine(torch.tensor([[1.0, 0.0], [0.0, 0.0]])))


def test_stable_rank_is_that_of_the_centred_matrix() -> None:
    torch.manual_seed(0)
    x = torch.randn(12, 3, 5, dtype=torch.float64) + 7
    values = torch.linalg.svdvals(x.flatten(1) - x.flatten(1).mean(0))
    assert stable_rank(x) == pytest.approx(float(values.square().sum() / values[0] ** 2), rel=1e-9)


def test_stable_rank_at_the_ends() -> None:
    line = torch.linspace(0, 1, 6)[:, None] * torch.randn(1, 9, generator=torch.Generator().manual_seed(0))
    assert stable_rank(line + 3) == pytest.approx(1, rel=1e-5)
    assert stable_rank(torch.eye(6)) == pytest.approx(5)  # a simplex: all differences alike
    assert math.isnan(stable_rank(torch.full((6, 9), 0.1)))
    assert math.isnan(stable_rank(torch.tensor([[math.nan, 1.0], [1.0, 2.0]])))


def test_dead_units() -> None:
    x = torch.tensor([[1.0, -1.0, 0.0, -2.0], [-1.0, -3.0, 0.0, 5.0]])
    assert dead_share(x) == 0.5
    images = -torch.ones(3, 4, 2, 2)
    images[1, 2, 0, 1] = 1.0
    assert dead_share(images) == 0.75
    tokens = -torch.ones(2, 3, 2)
    tokens[1, 2, 0] = 1.0
    assert dead_share(tokens) == 0.5
    assert dead_share(tokens, torch.tensor([[True, True, True], [True, True, False]])) == 1.0
