"""Looks fixed in advance: what each may spend, what is refused, and that all together err as rarely as they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from normlab.stats import guarded
from normlab.stats.power import seeds_needed as of_a_fixed_spread
from normlab.stats.sequential import Design, seeds_needed, spread_bound

FAMILY = 0.05 / 6
DESIGN = Design((8, 12, 18, 24), FAMILY)
STUDIES = 20_000


def test_what_is_spent():
    """α · t² (Kim and DeMets 1987) at 1/3, 1/2, 3/4 and 1."""
    assert DESIGN.spent == pytest.approx([FAMILY / 9, FAMILY / 4, FAMILY * 9 / 16, FAMILY])
    assert [DESIGN.error(look) for look in DESIGN.looks] == pytest.approx(
        [FAMILY / 9, FAMILY * 5 / 36, FAMILY * 5 / 16, FAMILY * 7 / 16]
    )


@given(st.lists(st.integers(8, 60), min_size=1, max_size=6, unique=True).map(sorted), st.floats(1e-4, 0.5))
def test_the_looks_share_alpha(looks, alpha):
    design = Design(tuple(looks), alpha)
    assert sum(map(design.error, looks)) == pytest.approx(alpha)
    assert design.spent[-1] == pytest.approx(alpha)
    assert all(design.error(look) > 0 for look in looks)


def test_one_look_is_the_fixed_design():
    d = np.random.default_rng(0).normal(size=10)
    assert Design((10,), FAMILY).interval(d, 10) == guarded.interval(d, FAMILY)


def test_an_interval_of_a_look():
    d = np.random.default_rng(0).normal(size=12)
    found, own = DESIGN.interval(d, 12), guarded.interval(d, DESIGN.error(12))
    assert (found.low, found.high, found.level) == (own.low, own.high, 1 - FAMILY)
    fewer = DESIGN.interval(d[:10], 12, left_out=2)
    alone = guarded.interval(d[:10], DESIGN.error(12))
    assert (fewer.low, fewer.high) == (alone.low, alone.high)


@pytest.mark.parametrize(
    ("looks", "alpha", "says"),
    [
        ((), 0.05, "at least one look"),
        ((12, 8), 0.05, "must be in ascending order"),
        ((8, 8), 0.05, "must be in ascending order"),
        ((6, 12), 0.05, "at least 8"),
        ((8, 12), 0.0, "between 0 and 1"),
        ((8, 12), 1.5, "between 0 and 1"),
    ],
)
def test_designs_that_are_refused(looks, alpha, says):
    with pytest.raises(ValueError, match=says):
        Design(looks, alpha)


def test_caps():
    assert Design.capped((8, 12, 18, 24), 20, 0.05).looks == (8, 12, 18, 20)
    assert Design.capped((8, 12), 12, 0.05).looks == (8, 12)
    assert Design.capped((8, 12), 30, 0.05).looks == (8, 12, 30)
    with pytest.raises(ValueError, match="below the first look, 8"):
        Design.capped((8, 12), 6, 0.05)


@pytest.mark.parametrize(
    ("n", "look", "says"),
    [(10, 10, "no look is planned"), (9, 8, "exactly the planned"), (8, 12, "exactly the planned")],
)
def test_looks_that_are_not_planned(n, look, says):
    with pytest.raises(ValueError, match=says):
        DESIGN.interval(np.arange(float(n)), look)


@pytest.mark.parametrize("name", ["normal", "exponential", "lognormal"])
def test_looking_again_costs_nothing(name):
    """The truth at the margin: any interval beyond it, at any look, would be a false verdict. t's are."""
    rng = np.random.default_rng(1)
    d = getattr(rng, name)(size=(STUDIES, 24))
    d -= {"normal": 0, "exponential": 1, "lognormal": math.exp(0.5)}[name]
    wrong, by_t = np.zeros(STUDIES, dtype=bool), np.zeros(STUDIES, dtype=bool)
    for look in DESIGN.looks:
        low, high = DESIGN.limits(d[:, :look], look)
        wrong |= (low > 0) | (high < 0)
        by_t |= stats.ttest_1samp(d[:, :look], 0, axis=1).pvalue < FAMILY
    assert wrong.mean() <= FAMILY + 4 * math.sqrt(FAMILY / STUDIES)
    assert by_t.mean() > 1.5 * FAMILY


def test_large_effects_stop_early():
    d = 5 + 0.25 * np.random.default_rng(2).normal(size=(2000, 8))
    assert np.mean(DESIGN.limits(d, 8)[0] > 1) > 0.99


def test_the_bound_on_the_spread():
    """√(7 / 2.167) = 1.797 at eight seeds; it holds 95 % of the time."""
    d = np.random.default_rng(3).normal(size=(STUDIES, 8))
    assert spread_bound(d[0]) / d[0].std(ddof=1) == pytest.approx(1.797, abs=1e-3)
    factor = spread_bound(d[0]) / d[0].std(ddof=1)
    assert np.mean(factor * d.std(1, ddof=1) >= 1) == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / STUDIES))


@pytest.mark.slow
def test_seeds_needed_are_rarely_too_few():
    """From eight seeds: the point estimate says fewer than the truth half of the time, the bound rarely."""
    true = of_a_fixed_spread(1.0, 1.0, FAMILY)
    studies = np.random.default_rng(4).normal(size=(60, 8))
    naive = np.mean([of_a_fixed_spread(1.0, float(d.std(ddof=1)), FAMILY) < true for d in studies])
    bound = np.mean([seeds_needed(d, 1.0, FAMILY) < true for d in studies])
    assert bound <= 0.1 < 0.3 < naive
    d = studies[0]
    assert seeds_needed(d, 1.0, FAMILY) >= seeds_needed(d, 2.0, FAMILY) >= 8
    assert seeds_needed(d, 1.0, FAMILY, equivalence=True) >= 8
    with pytest.raises(ValueError, match="equal"):
        seeds_needed([0.5] * 8, 1.0, FAMILY)
