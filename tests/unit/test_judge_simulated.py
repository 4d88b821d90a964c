"""The whole judge on studies whose truth is known: how often it errs, and how often it finds what is there.

Paired differences with a standard deviation of 1 around a shared value of each seed. The error of the interval itself
is simulated in docs/verdicts/simulation.md, with more studies and populations; here, that nothing between the rows and
the verdict spoils it.
"""

import math

import numpy as np
import pytest

from finding_files import finding, write
from normlab.findings import judge as judging
from normlab.findings.judge import PRIMARIES, judge
from normlab.findings.read import read_finding
from normlab.findings.verdict import Reason

STUDIES, FAMILY = 2000, 0.05 / 6  # of six claims
LOOKS = (8, 12, 18, 24)
SHAPES = {
    "normal": lambda rng, size: rng.normal(0, 1, size),
    "exponential": lambda rng, size: rng.exponential(1, size) - 1,
    "mirrored exponential": lambda rng, size: 1 - rng.exponential(1, size),
    "lognormal": lambda rng, size: (np.exp(rng.normal(0, 1, size)) - math.exp(0.5)) / 2.161,
}


@pytest.fixture(autouse=True)
def only_what_decides(monkeypatch):
    monkeypatch.setattr(judging, "seeds_to_tell", lambda *_: 8)  # which takes most of the time


@pytest.fixture
def simulate(tmp_path):
    """`simulate(truths, seeds, **changes)`: verdicts of studies of which arm i is better than the last by truths[i]."""

    def studies(truths, seeds=12, count=STUDIES, shape="normal", looks=(), **changes):
        names = [*(f"arm{i}" for i in range(len(truths))), "control"]
        change = {
            "arms": {name: [] for name in names},
            "contrasts": {name: f"{name} - control" for name in names[:-1]},
            "tune": None,
            "metric": "value",
            **changes,
        }
        found = read_finding(write(tmp_path, finding(**change)))
        rng = np.random.default_rng(0)
        shared = rng.normal(0, 5, (count, seeds))
        arms = {name: shared + t + SHAPES[shape](rng, shared.shape) for name, t in zip(names, truths, strict=False)}
        arms["control"] = shared
        if found.rule == "ratio":
            arms = {name: np.exp(values) for name, values in arms.items()}
        return [_sequence(found, _rows(arms, i), looks or (seeds,)) for i in range(count)]

    return studies


def _sequence(found, rows, looks):
    """The verdict at the first look that decides, or at the cap."""
    for look in looks:
        verdict = judge(found, [row for row in rows if row["seed"] < look], look, "simulated", {}, looks)
        if verdict.state != "undecided":
            break
    return verdict


def _rows(arms, study):
    return [
        {"arm": name, "condition": "", "seed": seed, "id": f"{name}-{seed}", "diverged": False, "value": float(value)}
        for name, values in arms.items()
        for seed, value in enumerate(values[study])
    ]


def share(found, state):
    return float(np.mean([v.state == state for v in found]))


def allowed(p: float, n: int = STUDIES) -> float:
    """The most that a share may be whose chance is p: four standard errors above."""
    return p + 4 * math.sqrt(p * (1 - p) / n)


RULES = {
    "difference": {"rule": "difference", "margin": 0.5},
    "ratio": {"rule": "ratio", "margin": math.exp(0.5)},
    "equivalence": {"rule": "equivalence", "margin": 3.0},
}


@pytest.mark.parametrize(("rule", "primary"), [*((rule, True) for rule in RULES), ("difference", False)])
def test_intervals_cover_the_truth_as_often_as_they_say(simulate, rule, primary):
    found = simulate([0.7], primary=primary, **RULES[rule])
    level = 1 - (FAMILY if primary else 0.05)
    missed = [not v.deciding.interval.low <= 0.7 <= v.deciding.interval.high for v in found]
    assert found[0].level == found[0].deciding.interval.level == level
    assert np.mean(missed) <= allowed(1 - level)
    assert primary or np.mean(missed) > 0
    assert not primary or share(found, "estimate") == 0
    assert primary or share(found, "estimate") == 1


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rule", ["difference", "ratio"])
def test_an_effect_just_at_the_margin_is_rarely_decided_over_all_looks(simulate, rule, shape):
    found = simulate([0.5], 24, shape=shape, looks=LOOKS, **RULES[rule])
    assert 1 - share(found, "undecided") <= allowed(FAMILY)


@pytest.mark.parametrize("shape", ["normal", "lognormal"])
def test_an_effect_just_at_the_margin_is_rarely_decided_at_one(simulate, shape):
    found = simulate([0.5], 8, shape=shape, **RULES["difference"])
    assert 1 - share(found, "undecided") <= allowed(FAMILY)


def test_a_difference_just_at_the_margin_is_rarely_called_equivalent(simulate):
    found = simulate([3.0], **RULES["equivalence"])
    assert share(found, "supported") <= allowed(FAMILY)
    assert share(found, "contradicted") <= allowed(FAMILY)


@pytest.mark.parametrize("rule", ["difference", "ratio"])
def test_an_effect_far_beyond_the_margin_is_found(simulate, rule):
    found = simulate([0.5 + 5.0], looks=(8, 12), count=300, **RULES[rule])
    assert share(found, "supported") > 0.99
    assert np.mean([len(v.deciding.seeds) for v in found]) < 12  # some are decided at the first look


def test_what_is_too_small_and_what_is_opposite_are_told_apart(simulate):
    none, opposite = (simulate([effect], count=300, **RULES["difference"], seeds=24) for effect in (-0.0, -3.0))
    assert Reason.OPPOSITE not in {v.reason for v in none}
    assert {v.reason for v in opposite} == {Reason.OPPOSITE}
    wide = simulate([0.0], count=300, seeds=24, rule="difference", margin=2.0)
    assert {v.reason for v in wide} <= {Reason.IRRELEVANT, Reason.TOO_SMALL}


def test_equal_arms_are_called_so(simulate):
    assert share(simulate([0.0], count=300, seeds=24, **RULES["equivalence"]), "supported") > 0.99


def test_a_claim_of_several_contrasts_needs_all_of_them(simulate):
    """With one at the margin and one far beyond it is supported as rarely as by the first alone."""
    rare = simulate([0.5, 9.0], count=1000, **RULES["difference"])
    assert share(rare, "supported") <= allowed(FAMILY, 1000)
    assert all(v.decides == "arm0" for v in rare)


@pytest.mark.slow
def test_a_family_of_six_claims_rarely_errs_at_all(simulate):
    """Six effects just at their margins: any support is an error, and so is any contradiction."""
    found = simulate([0.5], 8, count=500 * PRIMARIES, shape="lognormal", **RULES["difference"])
    decided = np.array([v.state != "undecided" for v in found]).reshape(500, PRIMARIES)
    assert decided.any(1).mean() <= allowed(0.05, 500)


def test_one_run_in_twenty_that_collapses_errs_as_rarely(simulate, tmp_path):
    """Counted as an outcome of its own: averaged in, t is wrong in six studies of ten."""
    found = read_finding(write(tmp_path, finding(tune=None)))  # margin 1 point
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(1000):
        failed = rng.random(8) < 0.05
        values = {"layer": 0.81 + rng.normal(0, 0.01, 8), "batch": np.full(8, 0.8)}
        rows = [
            {"arm": arm, "condition": "", "seed": seed, "id": f"{arm}-{seed}", "test/accuracy": float(value),
             "diverged": bool(arm == "layer" and failed[seed])}
            for arm, column in values.items() for seed, value in enumerate(column)
        ]  # fmt: skip
        verdicts.append(judge(found, rows, 8, "simulated", {}))
    assert 1 - share(verdicts, "undecided") <= allowed(FAMILY, 1000)
