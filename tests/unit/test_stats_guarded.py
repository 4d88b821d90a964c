"""The guarded interval: what it is by hand, what it refuses, and that it keeps its level where t does not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from normlab.stats import guarded
from normlab.stats.paired import t_interval

FAMILY = 0.05 / 6
STUDIES = 20_000


def miss(d, alpha):
    low, high = guarded.limits(d, alpha)
    return float(np.mean((low > 0) | (high < 0)))


def at_most(alpha, studies=STUDIES):
    return alpha + 4 * math.sqrt(alpha * (1 - alpha) / studies)


def lognormal(rng, shape):
    return rng.lognormal(size=shape) - math.exp(0.5)


DRAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "t3": lambda rng, shape: rng.standard_t(3, shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1,
    "lognormal": lognormal,
    "lognormal mirrored": lambda rng, shape: -lognormal(rng, shape),
    "contaminated": lambda rng, shape: rng.normal(size=shape) * np.where(rng.random(shape) < 0.1, 5, 1),
    "shifted": lambda rng, shape: rng.normal(size=shape) + 3 * (rng.random(shape) < 0.1) - 0.3,
    "ties": lambda rng, shape: np.round(rng.normal(size=shape)),
    "two values": lambda rng, shape: (rng.random(shape) < 0.1) - 0.1,
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("n", [8, 13, 24])
def test_it_misses_as_rarely_as_it_says(draw, n):
    rng = np.random.default_rng(n)
    d = DRAWS[draw](rng, (STUDIES, n))
    assert miss(d, FAMILY) <= at_most(FAMILY)
    assert miss(d, 0.05) <= at_most(0.05)


def test_student_does_not():
    d = lognormal(np.random.default_rng(0), (STUDIES, 8))
    half = stats.t.isf(FAMILY / 2, 7) * d.std(1, ddof=1) / math.sqrt(8)
    assert np.mean(np.abs(d.mean(1)) > half) > 8 * FAMILY


def test_by_hand():
    """low and high are t's, each factor by the skewness on its side."""
    d = np.array([0.3, 0.1, 0.4, 0.1, 0.5, 0.9, 0.2, 0.6, 1.5])
    skew = float(stats.skew(d))
    plain, found = t_interval(d, FAMILY), guarded.interval(d, FAMILY)
    mean = d.mean()
    assert guarded.standardised(d) == pytest.approx((stats.ttest_1samp(d, 0).statistic, skew))
    assert (mean - found.low) / (mean - plain.low) == pytest.approx(float(guarded.widening(-skew, 9, FAMILY)))
    assert (found.high - mean) / (plain.high - mean) == pytest.approx(float(guarded.widening(skew, 9, FAMILY)))
    assert found.high - mean > mean - found.low  # to the right, where large values may be missing


@given(
    st.lists(st.floats(-5, 5), min_size=8, max_size=30).filter(lambda x: np.std(x) > 1e-3),
    st.floats(-3, 3),
    st.floats(0.1, 10),
    st.sampled_from([0.05, FAMILY, 1e-3, 1e-5]),
)
def test_it_moves_with_the_data(values, shift, scale, alpha):
    d = np.array(values)
    found, moved, mirrored = (guarded.interval(x, alpha) for x in (d, shift + scale * d, -d))
    assert (moved.low, moved.high) == pytest.approx((shift + scale * found.low, shift + scale * found.high), abs=1e-6)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    plain = t_interval(d, alpha)
    assert found.low <= plain.low + 1e-9
    assert found.high >= plain.high - 1e-9


def test_the_table_narrows_with_seeds_and_widens_with_the_level():
    table = np.loadtxt(guarded.TABLE, delimiter=",", skiprows=1)
    assert set(range(8, 25)) <= set(table[:, 0])
    assert (table[:, 2] >= 1).all()
    reach = {n: [float(guarded.widening(0.0, n, a)) for a in (0.05, FAMILY, 1e-3)] for n in (8, 12, 18, 24, 48)}
    for wide, narrow in zip(list(reach.values()), list(reach.values())[1:], strict=False):
        assert all(a >= b - 0.02 for a, b in zip(wide, narrow, strict=True))
    assert all(sorted(row) == row for row in reach.values())


@pytest.mark.parametrize("value", [0.0, 0.1, -3e-7, 1e9])
def test_equal_differences_are_no_proof(value):
    found = guarded.interval([value] * 8, FAMILY)
    assert (found.low, found.high) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("bad", "alpha"),
    [([1.0] * 7, 0.05), ([1.0] * 7 + [math.nan], 0.05), ([1.0] * 7 + [math.inf], 0.05), ([[1.0] * 8], 0.05)],
)
def test_refusals(bad, alpha):
    with pytest.raises(ValueError, match=r"seeds|number|row"):
        guarded.interval(bad, alpha)


@pytest.mark.parametrize("alpha", [0, 1, -0.1, 5])
def test_an_alpha_that_is_no_chance(alpha):
    with pytest.raises(ValueError, match="between 0 and 1"):
        guarded.interval(np.arange(8.0), alpha)
