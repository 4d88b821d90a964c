"""Keep-or-discard sessions: the evidence is a fair game, and one error is spent over all edits."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.stats.keeping import Session, evidence


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=7))
def test_the_game_is_fair(sizes):
    """Over all choices of signs the stake's mean stays 1, after every seed: that is what symmetry says."""
    signs = np.array(list(itertools.product((-1, 1), repeat=len(sizes))))
    assert evidence(signs * np.array(sizes)).mean(axis=0) == pytest.approx(1)


def test_a_seed_at_most_doubles_it():
    e = evidence(np.full(10, 3.0))
    assert (e[1:] / e[:-1] <= 2).all()
    assert e[-1] <= 2**10
    assert evidence([0.0, 0.0]).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(-3, 3).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_units_do_not_matter(values, scale):
    d = np.array(values)
    assert evidence(scale * d) == pytest.approx(evidence(d), rel=1e-6)


@pytest.mark.parametrize("draw", ["normal", "standard_cauchy", "laplace"])
def test_it_rarely_grows_of_nothing_however_often_one_looks(draw):
    e = evidence(getattr(np.random.default_rng(0), draw)(size=(20_000, 24))).max(axis=1)
    for level in (0.05, 0.01):
        assert np.mean(e >= 1 / level) <= level + 4 * math.sqrt(level / 20_000)


def test_levels_by_hand():
    """αᵢ = α γᵢ + αᵢ₋₁ if the edit before was kept (Tian and Ramdas 2021)."""
    assert Session(0.05, 10).level == pytest.approx(0.005)
    assert Session(0.05, 10, (True,)).level == pytest.approx(0.01)
    assert Session(0.05, 10, (True, True, False)).level == pytest.approx(0.005)
    assert Session(0.05, 10, (False, True, True)).level == pytest.approx(0.015)
    assert Session(0.06, None).level == pytest.approx(0.03)
    assert Session(0.06, None, (False,)).level == pytest.approx(0.01)
    assert Session(0.05, 100).seeds_at_least() == 11


def test_without_keeps_all_levels_together_are_alpha():
    state, total = Session(0.05, 20), 0.0
    for _ in range(20):
        total += state.level
        state = state.after(kept=False)
    assert total == pytest.approx(0.05)
    with pytest.raises(ValueError, match="new session"):
        _ = state.level
    with pytest.raises(ValueError, match="new session"):
        state.after(kept=True)


def test_decisions():
    state = Session(0.05, 10)
    assert state.decide([], 12) == "open"
    assert state.decide([1.0] * 4, 12) == "open"
    assert state.decide([1.0] * 12, 12) == "keep"
    assert state.decide([1.0, -1.0] * 6, 12) == "discard"
    assert state.decide([1.0] * 12 + [-5.0], 24) == "keep"  # it was reached: nothing takes that back


def test_a_session_of_edits_that_change_nothing_rarely_keeps_any():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        state = Session(0.05, 30)
        for value in evidence(rng.normal(size=(30, 24))).max(axis=1):
            state = state.after(bool(value >= 1 / state.level))
        wrong += any(state.kept)
    assert wrong / 300 <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / 300)


@pytest.mark.parametrize(("alpha", "planned", "kept"), [(0.0, 5, ()), (1.0, 5, ()), (0.05, 1, (True, False))])
def test_refusals(alpha, planned, kept):
    with pytest.raises(ValueError, match=r"between 0 and 1|planned"):
        Session(alpha, planned, kept)
    with pytest.raises(ValueError, match="number"):
        evidence([1.0, math.nan])
