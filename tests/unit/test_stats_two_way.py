"""The two-way interval by hand, and by simulation with known errors of seeds and of examples."""

import math

import numpy as np
import pytest
from scipy import stats

from normlab.stats import guarded
from normlab.stats.two_way import limits, two_way

STUDIES = 4000


def test_by_hand():
    """MOVER: the squares of both ways' reaches add up."""
    d = np.random.default_rng(0).normal(size=(9, 12)) + 0.3
    found = two_way(d, alpha=0.05)
    rows, columns = d.mean(1), d.mean(0)
    seeds = guarded.interval(rows, 0.05)
    blocks = stats.t.isf(0.025, 11) * columns.std(ddof=1) / math.sqrt(12)
    assert found.mean == pytest.approx(d.mean())
    assert found.mean - found.interval.low == pytest.approx(math.hypot(d.mean() - seeds.low, blocks))
    assert found.interval.high - found.mean == pytest.approx(math.hypot(seeds.high - d.mean(), blocks))
    assert (found.seed_error, found.block_error) == pytest.approx((rows.std(ddof=1) / 3, columns.std(ddof=1) / 12**0.5))
    assert (found.seeds_alone.low, found.seeds_alone.high) == pytest.approx((seeds.low, seeds.high))


def test_blocks_of_unequal_size():
    """The mean is over examples, and blocks that were put together count as their sum."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(5, 50, 15)
    right = rng.binomial(sizes, 0.7, (8, 15)) - rng.binomial(sizes, 0.5, (8, 15))
    found = two_way(right / sizes, sizes)
    assert found.mean == pytest.approx((right.sum(1) / sizes.sum()).mean())
    equal = two_way(right / 10, [10] * 15)
    assert equal.interval == two_way(right / 10).interval


@pytest.mark.parametrize(("seed", "block", "rest"), [(1, 0, 1), (0, 3, 1), (1, 3, 1), (0, 0, 1)])
def test_it_covers_the_mean_over_all_seeds_and_examples(seed, block, rest):
    rng = np.random.default_rng(2)
    d = (
        seed * rng.normal(size=(STUDIES, 8, 1))
        + block * rng.normal(size=(STUDIES, 1, 20))
        + rest * rng.normal(size=(STUDIES, 8, 20))
    )
    low, high = limits(d, np.full(20, 1 / 20), 0.05)
    assert np.mean((low > 0) | (high < 0)) <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / STUDIES)
    if block > seed:
        low, high = guarded.limits(d.mean(-1), 0.05)
        assert np.mean((low > 0) | (high < 0)) > 0.1  # over seeds alone: more than twice what it says


@pytest.mark.parametrize(
    ("shape", "sizes", "says"),
    [
        ((8,), None, "shape .seeds, blocks"),
        ((8, 9), None, "10 blocks"),
        ((7, 10), None, "8 seeds"),
        ((8, 10), [1] * 9, "each of"),
    ],
)
def test_refusals(shape, sizes, says):
    with pytest.raises(ValueError, match=says):
        two_way(np.random.default_rng(0).normal(size=shape), sizes)
