"""Rates of failure against closed forms and exact enumeration."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from normlab.stats.rates import Failures, paired_rates, rate_interval, unpaired_rates


def test_clopper_pearson():
    """0 of n: 1 - (α / 2)^(1/n); k of n: quantiles of the beta distribution."""
    assert rate_interval(0, 8).high == pytest.approx(1 - 0.025 ** (1 / 8))
    assert rate_interval(0, 8).low == 0
    found = rate_interval(3, 24, 0.01)
    assert (found.low, found.high) == pytest.approx((stats.beta.ppf(0.005, 3, 22), stats.beta.ppf(0.995, 4, 21)))


@pytest.mark.parametrize(("count", "n"), [(-1, 8), (9, 8), (0, 0)])
def test_what_is_no_rate(count, n):
    with pytest.raises(ValueError, match="not a rate"):
        rate_interval(count, n)


@pytest.mark.parametrize(("b", "c", "p"), [(6, 0, 2 / 64), (1, 1, 1.0), (0, 0, 1.0), (5, 1, 14 / 64)])
def test_mcnemar(b, c, p):
    first = [True] * b + [False] * c + [True, False]
    second = [False] * b + [True] * c + [True, False]
    found = paired_rates(first, second)
    assert found.p == pytest.approx(p)
    assert found.counts == (b + 1, c + 1)
    assert found.difference == pytest.approx((b - c) / (b + c + 2))
    assert found.interval.low <= found.difference <= found.interval.high


@pytest.mark.parametrize("truth", [(0.0, 0.0), (0.05, 0.0), (0.05, 0.05), (0.3, 0.1), (0.5, 0.5)])
def test_the_paired_interval_covers_exactly(truth):
    """By summing over all outcomes of ten seeds."""
    b, c = truth
    covered = 0.0
    for i, j in itertools.product(range(11), repeat=2):
        if i + j > 10:
            continue
        first = [True] * i + [False] * (10 - i)
        second = [False] * i + [True] * j + [False] * (10 - i - j)
        found = paired_rates(first, second, 0.05).interval
        chance = stats.multinomial.pmf([i, j, 10 - i - j], 10, [b, c, 1 - b - c])
        covered += chance * (found.low <= b - c <= found.high)
    assert covered >= 0.95


@pytest.mark.parametrize("truth", [(0.0, 0.0), (0.05, 0.0), (0.3, 0.1), (0.9, 0.2)])
def test_the_unpaired_interval_covers_exactly(truth):
    chances = [stats.binom.pmf(range(9), 8, p) for p in truth]
    covered = 0.0
    for i, j in itertools.product(range(9), repeat=2):
        found = unpaired_rates((i, 8), (j, 8), 0.05).interval
        covered += chances[0][i] * chances[1][j] * (found.low <= truth[0] - truth[1] <= found.high)
    assert covered >= 0.95
    assert unpaired_rates((8, 8), (0, 8)).p == pytest.approx(2 / 12870)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=24))
def test_exchanging_the_arms_turns_the_sign(pairs):
    first, second = zip(*pairs, strict=True)
    one, two = paired_rates(first, second), paired_rates(second, first)
    assert one.difference == pytest.approx(-two.difference)
    assert (one.interval.low, one.interval.high) == pytest.approx((-two.interval.high, -two.interval.low))
    assert one.p == pytest.approx(two.p)


def test_what_a_verdict_is_conditional_on():
    none = Failures((False,) * 8, (False,) * 8)
    assert none.kept == list(range(8))
    assert none.condition(("batch", "layer")) == (
        "no run failed in 8 seeds; a failure rate of up to 37% per arm is not excluded (95 %)"
    )
    some = Failures((True, True, False, False), (False, True, False, False))
    assert some.kept == [2, 3]
    assert some.condition(("batch", "layer")) == (
        "on the 2 of 4 seeds on which no run failed; 2 of batch and 1 of layer failed"
    )
    assert not some.both_failed
    assert Failures((True,) * 5 + (False,), (True,) * 6).both_failed
    assert not Failures((True,) * 6, (False,) * 6).both_failed
    with pytest.raises(ValueError, match="one run of each arm"):
        Failures((True,), (True, False))
    with pytest.raises(ValueError, match="one run of each arm"):
        paired_rates(np.array([True]), [True, False])
