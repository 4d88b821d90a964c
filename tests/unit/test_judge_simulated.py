"""The whole judge on studies whose truth is known: how often it errs, and how often it finds what is there.

Eight paired seeds, normal differences with a standard deviation of 1 around a shared value of each seed. Whatever
decides nothing (p, bootstrap, sign flips, seeds needed) is left out, as it takes most of the time.
"""

import math

import numpy as np
import pytest

from finding_files import finding, write
from normlab.findings import estimates
from normlab.findings import judge as judging
from normlab.findings.finding import read_finding
from normlab.findings.judge import PRIMARIES, judge
from normlab.findings.verdict import Reason
from normlab.stats import paired
from normlab.stats.power import equivalence_power, power

STUDIES, SEEDS = 3000, 8
FAMILY = 0.05 / 6  # of six claims


@pytest.fixture(autouse=True)
def only_what_decides(monkeypatch):
    def interval_alone(d, alpha):
        none = paired.Interval(math.nan, math.nan, 1 - alpha)
        mean, sd = float(np.mean(d)), float(np.std(d, ddof=1))
        return paired.Comparison(len(d), mean, sd, paired.t_interval(d, alpha), math.nan, math.nan, none, math.nan)

    monkeypatch.setattr(estimates, "compare", interval_alone)
    monkeypatch.setattr(judging, "_needed", lambda *_: SEEDS)


@pytest.fixture
def simulate(tmp_path):
    """`simulate(truths, **changes)`: the verdicts of studies of which arm i is better than the last by truths[i]."""

    def studies(truths, count=STUDIES, seed=0, **changes):
        names = [*(f"arm{i}" for i in range(len(truths))), "control"]
        change = {
            "arms": {name: [] for name in names},
            "contrasts": {name: f"{name} - control" for name in names[:-1]},
            "tune": None,
            "metric": "value",
            **changes,
        }
        found = read_finding(write(tmp_path, finding(**change)))
        rng = np.random.default_rng(seed)
        shared = rng.normal(0, 5, (count, SEEDS))
        arms = {name: shared + rng.normal(t, 1, shared.shape) for name, t in zip(names, truths, strict=False)}
        arms["control"] = shared
        if found.rule == "ratio":
            arms = {name: np.exp(values) for name, values in arms.items()}
        return [judge(found, _rows(arms, i), SEEDS, "simulated", {}) for i in range(count)]

    return studies


def _rows(arms, study):
    return [
        {"arm": name, "condition": "", "seed": seed, "id": f"{name}-{seed}", "diverged": False, "value": float(value)}
        for name, values in arms.items()
        for seed, value in enumerate(values[study])
    ]


def share(found, state):
    return float(np.mean([v.state == state for v in found]))


def chance(p: float, n: int = STUDIES) -> pytest.approx:
    """Four standard errors of a share around p."""
    return pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / n))


RULES = {
    "difference": {"rule": "difference", "margin": 0.5},
    "ratio": {"rule": "ratio", "margin": math.exp(0.5)},
    "equivalence": {"rule": "equivalence", "margin": 3.0},
}


@pytest.mark.parametrize(("rule", "primary"), [*((rule, True) for rule in RULES), ("difference", False)])
def test_intervals_cover_the_truth_as_often_as_they_say(simulate, rule, primary):
    found = simulate([0.7], primary=primary, **RULES[rule])
    level = 1 - (FAMILY if primary else 0.05)
    inside = [v.deciding.interval.low <= 0.7 <= v.deciding.interval.high for v in found]
    assert found[0].level == found[0].deciding.interval.level == level
    assert np.mean(inside) == chance(level)
    assert not primary or share(found, "estimate") == 0
    assert primary or share(found, "estimate") == 1


@pytest.mark.parametrize("rule", ["difference", "ratio"])
def test_an_effect_just_at_the_margin_is_rarely_decided(simulate, rule):
    """Either way with half of the family's share of 0.05: an interval lies beyond the margin on one side."""
    found = simulate([0.5], **RULES[rule])
    assert share(found, "supported") == chance(FAMILY / 2)
    assert share(found, "contradicted") == chance(FAMILY / 2)


def test_a_difference_just_at_the_margin_is_rarely_called_equivalent(simulate):
    found = simulate([3.0], **RULES["equivalence"])
    assert share(found, "supported") == chance(FAMILY / 2)
    assert share(found, "contradicted") == chance(FAMILY / 2)


@pytest.mark.parametrize(("rule", "beyond"), [("difference", 1.0), ("difference", 2.0), ("ratio", 1.5)])
def test_an_effect_beyond_the_margin_is_found_as_often_as_its_power_says(simulate, rule, beyond):
    found = simulate([0.5 + beyond], **RULES[rule])
    assert share(found, "supported") == chance(power(SEEDS, beyond, 1.0, FAMILY))
    assert share(found, "contradicted") <= 4 / STUDIES


def test_no_effect_is_contradicted_as_often_as_its_power_says(simulate):
    found = simulate([0.0], rule="difference", margin=1.5)
    assert share(found, "contradicted") == chance(power(SEEDS, 1.5, 1.0, FAMILY))
    kinds = {v.reason for v in found if v.state == "contradicted"}
    assert Reason.IRRELEVANT in kinds
    assert Reason.OPPOSITE not in kinds


def test_the_opposite_is_called_so_as_often_as_its_power_says(simulate):
    found = simulate([-2.0], **RULES["difference"])
    opposite = np.mean([v.reason is Reason.OPPOSITE for v in found])
    assert opposite == chance(power(SEEDS, 1.5, 1.0, FAMILY))


@pytest.mark.parametrize("margin", [2.0, 3.0])
def test_equal_arms_are_called_so_as_often_as_their_power_says(simulate, margin):
    found = simulate([0.0], rule="equivalence", margin=margin)
    assert share(found, "supported") == chance(equivalence_power(SEEDS, margin, 1.0, FAMILY))


def test_a_claim_of_several_contrasts_needs_all_of_them(simulate):
    """With one at the margin and one far beyond it is supported as rarely as by the first alone."""
    rare = simulate([0.5, 9.0], **RULES["difference"])
    assert share(rare, "supported") == chance(FAMILY / 2)
    assert all(v.decides == "arm0" for v in rare)
    one = power(SEEDS, 1.5, 1.0, FAMILY)
    both = simulate([2.0, 2.0], **RULES["difference"])
    assert share(both, "supported") == chance(one**2)


def test_a_family_of_six_claims_rarely_errs_at_all(simulate):
    """Six effects just at their margins: any support is an error, and so is any contradiction."""
    found = simulate([0.5], count=1000 * PRIMARIES, **RULES["difference"])
    decided = np.array([v.state != "undecided" for v in found]).reshape(1000, PRIMARIES)
    assert decided.any(1).mean() == chance(1 - (1 - FAMILY) ** PRIMARIES, 1000)
    assert 1 - (1 - FAMILY) ** PRIMARIES < 0.05
