"""The two-way interval by an independent slow formula, and by simulation with known errors of seeds and examples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from normlab.stats import guarded
from normlab.stats.two_way import in_blocks, limits, two_way

STUDIES = 2000


def slow(d, sizes, alpha):
    """The limits from sums in float64 over every entry, with Hall's transform inverted by a root finder."""
    seeds, examples = len(d), len(d[0])
    total = math.fsum(sizes)
    rows = [math.fsum(x * n for x, n in zip(row, sizes, strict=True)) / total for row in d]
    mean = math.fsum(rows) / seeds
    columns = [math.fsum(row[e] for row in d) / seeds for e in range(examples)]
    rest = [n / total * (c - mean) for c, n in zip(columns, sizes, strict=True)]
    error = math.sqrt(examples / (examples - 1) * math.fsum(r * r for r in rest))
    a = math.fsum(r**3 for r in rest) / math.fsum(r * r for r in rest) ** 1.5
    t = stats.t.isf(alpha / 2, examples - 1)

    def corrected(x):
        return optimize.brentq(lambda u: u + a * u**2 / 3 + a**2 * u**3 / 27 + a / 6 - x, -1e4, 1e4, xtol=1e-13)

    below, above = max(t, corrected(t)) * error, max(t, -corrected(-t)) * error
    over = guarded.interval(rows, alpha)
    return mean - math.hypot(mean - over.low, below), mean + math.hypot(over.high - mean, above)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6, 0.001])
@pytest.mark.parametrize("skewed", [False, True])
def test_by_the_slow_formula(alpha, skewed):
    rng = np.random.default_rng(0)
    sizes = rng.integers(5, 50, 120)
    d = rng.normal(size=(9, 120)) + (rng.exponential(3, 120) if skewed else 0)
    found = two_way(d, sizes, alpha)
    assert (found.interval.low, found.interval.high) == pytest.approx(slow(d.tolist(), sizes.tolist(), alpha), rel=1e-9)
    rows = d @ (sizes / sizes.sum())
    assert found.mean == pytest.approx(rows.mean())
    assert found.seed_error == pytest.approx(rows.std(ddof=1) / 3)
    assert found.seeds_alone == guarded.interval(rows, alpha)


@given(st.integers(0, 10_000), st.sampled_from([0.05, 0.001]), st.floats(0.1, 10), st.floats(-5, 5))
def test_it_moves_scales_and_mirrors_with_the_scores_and_is_never_narrower(seed, alpha, scale, shift):
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(8, 1)) + rng.exponential(size=(1, 100)) + rng.normal(size=(8, 100))
    found, moved, mirrored = two_way(d, alpha=alpha), two_way(scale * d + shift, alpha=alpha), two_way(-d, alpha=alpha)
    low, high = found.interval.low, found.interval.high
    assert (moved.interval.low, moved.interval.high) == pytest.approx((scale * low + shift, scale * high + shift))
    assert (mirrored.interval.low, mirrored.interval.high) == pytest.approx((-high, -low))
    assert low <= found.seeds_alone.low
    assert high >= found.seeds_alone.high


@given(st.permutations(range(100)))
def test_the_order_of_examples_does_not_count(order):
    d = np.random.default_rng(1).normal(size=(8, 100))
    found = two_way(d[:, list(order)]).interval
    assert (found.low, found.high) == pytest.approx((two_way(d).interval.low, two_way(d).interval.high))


def test_equal_sizes_are_as_none():
    d = np.random.default_rng(1).normal(size=(8, 150))
    found = two_way(d, [10] * 150).interval
    assert (found.low, found.high) == pytest.approx((two_way(d).interval.low, two_way(d).interval.high))


def test_consecutive_windows_are_put_together():
    rng = np.random.default_rng(2)
    d, sizes = rng.normal(size=(8, 1003)), rng.integers(1, 9, 1003)
    blocks, counts = in_blocks(d, sizes)
    assert blocks.shape == (8, 100)
    assert counts.sum() == sizes.sum()
    np.testing.assert_allclose(blocks @ counts, d @ sizes)
    np.testing.assert_allclose(blocks[:, 0], d[:, :10] @ sizes[:10] / sizes[:10].sum())


def test_where_few_examples_differ_there_is_no_interval():
    """Ten of a thousand answers differ, on every seed alike: neither t nor its correction holds for so few."""
    d = np.random.default_rng(3).normal(0, 1e-6, (8, 1000))
    d[:, :10] += 1
    assert math.isinf(two_way(d).interval.low)
    assert math.isfinite(two_way(d).seeds_alone.low)
    d[:, 10:30] += 1
    assert math.isfinite(two_way(d).interval.high)


@pytest.mark.parametrize(("seed", "example", "rest"), [(1, 0, 1), (0, 9, 1), (1, 9, 1), (0, 0, 1)])
def test_it_covers_the_mean_over_all_seeds_and_examples(seed, example, rest):
    rng = np.random.default_rng(2)
    d = (
        seed * rng.normal(size=(STUDIES, 8, 1))
        + example * (rng.exponential(size=(STUDIES, 1, 100)) - 1)
        + rest * rng.normal(size=(STUDIES, 8, 100))
    )
    low, high = limits(d, np.full(100, 1 / 100), 0.05)
    assert np.mean((low > 0) | (high < 0)) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / STUDIES)
    if example and not seed:
        low, high = guarded.limits(d.mean(-1), 0.05)
        assert np.mean((low > 0) | (high < 0)) > 0.5  # over seeds alone


@pytest.mark.parametrize(
    ("shape", "sizes", "says"),
    [
        ((8,), None, "seeds by examples"),
        ((8, 99), None, "at least 100"),
        ((7, 100), None, "8 seeds"),
        ((8, 100), [1] * 99, "those of"),
    ],
)
def test_refusals(shape, sizes, says):
    with pytest.raises(ValueError, match=says):
        two_way(np.random.default_rng(0).normal(size=shape), sizes)
