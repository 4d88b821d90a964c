"""Batch norm's train–inference discrepancy, and what chance alone gives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from normlab.norms.batch import BatchNorm
from normlab.probes.discrepancy import chance_mean, chance_var, discrepancies


def norm(layout: str = "BC", channels: int = 4, positions: int | None = None, **options) -> BatchNorm:
    made = BatchNorm(channels, layout, positions=positions, **options).double()
    generator = torch.Generator().manual_seed(3)
    made.running_mean.copy_(torch.randn(made.running_mean.shape, generator=generator, dtype=torch.float64))
    made.running_var.copy_(0.5 + torch.rand(made.running_var.shape, generator=generator, dtype=torch.float64))
    return made


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(values: list[float], mean: float, var: float, eps: float) -> tuple[float, float]:
    own = sum(values) / len(values)
    sigma = math.sqrt(sum((v - own) ** 2 for v in values) / len(values) + eps)
    return abs(mean - own) / sigma, abs(math.sqrt(var + eps) / sigma - 1)


def same(found: Tensor, sets: list[tuple[list[float], float, float]], eps: float) -> None:
    """The rows are those of so many sets of values with their running mean and variance, in any order."""
    expected = torch.tensor([naive(*one, eps) for one in sets], dtype=torch.float64)
    levels = [[float(level(torch.tensor(len(one[0])))) for one in sets] for level in (chance_mean, chance_var)]
    assert found.shape == (4, len(sets))
    for row, wanted in zip(found, (expected[:, 0], expected[:, 1], *map(torch.tensor, levels)), strict=True):
        torch.testing.assert_close(row.sort().values, wanted.double().sort().values, rtol=1e-6, atol=1e-9)


def test_of_examples_by_the_definition() -> None:
    made, x = norm(eps=0.1), gaussian(9, 4)
    sets = [(x[:, c].tolist(), float(made.running_mean[c]), float(made.running_var[c])) for c in range(4)]
    same(discrepancies(made, x), sets, 0.1)


def test_of_images_in_chunks() -> None:
    made, x = norm("BCHW", nbs=3), gaussian(7, 4, 2, 3)
    sets = [
        (chunk[:, c].flatten().tolist(), float(made.running_mean[c]), float(made.running_var[c]))
        for chunk in x.split(3)
        for c in range(4)
    ]
    same(discrepancies(made, x), sets, made.eps)


def test_of_tokens_without_padding() -> None:
    made, x = norm("BTC"), gaussian(3, 5, 4)
    mask = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    sets = [(x[mask][:, c].tolist(), float(made.running_mean[c]), float(made.running_var[c])) for c in range(4)]
    same(discrepancies(made, x.masked_fill(~mask[..., None], 99.0), mask), sets, made.eps)


def test_of_a_recurrence_step_by_step_and_all_at_once() -> None:
    """Steps 3 and 4 have no statistics of their own; at step 2 a single sequence is left."""
    made, x = norm(positions=3), gaussian(4, 5, 4)
    mask = torch.arange(5) < torch.tensor([5, 2, 2, 1])[:, None]
    sets = [
        (x[mask[:, t], t, c].tolist(), float(made.running_mean[t, c]), float(made.running_var[t, c]))
        for t in (0, 1)
        for c in range(4)
    ]
    same(discrepancies(made, x, mask), sets, made.eps)
    steps = [discrepancies(made, x[:, t], mask[:, t], t) for t in range(5)]
    same(torch.cat(steps, 1), sets, made.eps)


def test_the_statistics_of_the_batch_itself_have_none() -> None:
    made, x = norm(), gaussian(50, 4)
    made.running_mean.copy_(x.mean(0))
    made.running_var.copy_(x.var(0, correction=0))
    assert discrepancies(made, x)[:2].abs().max() < 1e-12


@pytest.mark.parametrize("n", [3, 4, 8, 64, 1000])
def test_chance_is_what_a_simulation_gives(n: int) -> None:
    repeats = 400_000 if n < 100 else 20_000
    x = gaussian(repeats, n, seed=n)
    sigma = x.std(1, correction=0)
    for level, values in ((chance_mean, x.mean(1).abs() / sigma), (chance_var, (1 / sigma - 1).abs())):
        error = float(values.std() / math.sqrt(repeats))
        expected = float(level(torch.tensor(n)))
        if n == 3:  # a mean without a variance: its error is no guide
            assert float(values.mean()) == pytest.approx(expected, rel=0.1)
        else:
            assert abs(float(values.mean()) - expected) < 4 * error, (expected, error)


def test_chance_at_the_ends() -> None:
    n = torch.tensor([2, 10**6])
    assert chance_mean(n)[0] == chance_var(n)[0] == math.inf
    assert float(chance_mean(n)[1]) == pytest.approx(math.sqrt(2 / (math.pi * 1e6)), rel=1e-4)
    assert float(chance_var(n)[1]) == pytest.approx(1 / math.sqrt(math.pi * 1e6), rel=1e-4)


@pytest.mark.parametrize("nbs", [None, 8])
def test_a_trained_norm_of_independent_values_is_at_chance(nbs: int | None) -> None:
    """Up to the noise of the running statistics themselves, which momentum 0.01 makes small."""
    made = BatchNorm(500, "BC", nbs=nbs, momentum=0.01).double().train()
    for seed in range(600):
        made(2 + 3 * gaussian(32, 500, seed=seed))
    found = discrepancies(made, 2 + 3 * gaussian(32, 500, seed=1000)).mean(1)
    assert float(found[0] / found[2]) == pytest.approx(1, abs=0.06)
    assert float(found[1] / found[3]) == pytest.approx(1, abs=0.06)
