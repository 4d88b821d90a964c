"""The interval for runs that share no seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.stats import guarded, unpaired


@given(st.integers(0, 10**6), st.integers(8, 30), st.integers(8, 30), st.sampled_from([0.05, 0.05 / 6]))
def test_it_is_antisymmetric_and_follows_units(seed, n, m, alpha):
    rng = np.random.default_rng(seed)
    one, two = rng.lognormal(size=n), 3 * rng.normal(size=m)
    found, mirrored = unpaired.interval(one, two, alpha), unpaired.interval(two, one, alpha)
    scaled = unpaired.interval(5 + 10 * one, 10 * two, alpha)
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low))
    assert (scaled.low, scaled.high) == pytest.approx((5 + 10 * found.low, 5 + 10 * found.high))
    assert found.low < one.mean() - two.mean() < found.high


def test_an_arm_that_hardly_varies_leaves_the_others_guarded_interval():
    rng = np.random.default_rng(0)
    one, two = rng.exponential(size=10), 2 + 1e-7 * rng.normal(size=8)
    found, alone = unpaired.interval(one, two), guarded.interval(one)
    assert (found.low, found.high) == pytest.approx((alone.low - 2, alone.high - 2), abs=1e-5)


def test_many_studies_at_once_are_the_single_ones():
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(5, 8)), rng.normal(size=(5, 12))
    low, high = unpaired.limits(one, two, 0.05)
    for i in range(5):
        found = unpaired.interval(one[i], two[i])
        assert (found.low, found.high) == (low[i], high[i])


@pytest.mark.parametrize(("spread", "n", "m"), [(1, 8, 8), (10, 8, 24), (0.1, 12, 12)])
def test_it_keeps_its_level_where_welch_does_not(spread, n, m):
    rng = np.random.default_rng(2)
    mean = np.exp(0.5)
    one, two = spread * (rng.lognormal(size=(4000, n)) - mean), mean - rng.lognormal(size=(4000, m))
    low, high = unpaired.limits(one, two, 0.05)
    assert np.mean((low > 0) | (high < 0)) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)


def test_what_has_no_interval():
    few, enough = np.arange(7.0), np.arange(8.0)
    for arms in ((few, enough), (enough, few), (enough, [*few, np.nan])):
        with pytest.raises(ValueError, match=r"at least 8|not a number"):
            unpaired.interval(*arms)
    found = unpaired.interval(enough, np.ones(8))
    assert (found.low, found.high) == (-np.inf, np.inf)
