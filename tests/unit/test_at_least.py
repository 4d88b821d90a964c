"""Rules that count: k of m contrasts, with the error of either verdict controlled whatever the contrasts share."""

import math

import numpy as np
import pytest

from finding_files import finding, write
from normlab.config.errors import InputError
from normlab.findings import judge as judging
from normlab.findings.judge import alpha_of, judge
from normlab.findings.read import read_finding
from normlab.findings.verdict import Reason
from slowly import some

FAMILY = 0.05 / 6


@pytest.fixture(autouse=True)
def only_what_decides(monkeypatch):
    monkeypatch.setattr(judging, "seeds_to_tell", lambda *_: 8)  # which takes most of the time


@pytest.fixture
def of_four(tmp_path):
    """A finding with four contrasts with a control, of which so many must hold."""

    def made(at_least, **changes):
        arms = {name: [] for name in ("a", "b", "c", "d", "control")}
        contrasts = {name: f"{name} - control" for name in ("a", "b", "c", "d")}
        plain = {"arms": arms, "contrasts": contrasts, "tune": None, "metric": "value", "margin": 1.0}
        return read_finding(write(tmp_path, finding(**plain, at_least=at_least, **changes)))

    return made


def state(found, truths, rng, seeds=12, edges=None):
    """Of one study whose arms are better than the control by these truths, with a noise of 1."""
    shared = rng.normal(0, 5, seeds)
    values = {name: shared + t + rng.normal(0, 1, seeds) for name, t in zip("abcd", truths, strict=True)}
    values["control"] = shared
    rows = [
        {"arm": arm, "condition": "", "seed": seed, "id": f"{arm}-{seed}", "diverged": False, "value": float(value)}
        for arm, each in values.items()
        for seed, value in enumerate(each)
    ]
    return judge(found, rows, seeds, "simulated", edges or {})


@pytest.mark.parametrize(
    ("at_least", "truths", "expected", "reason"),
    [
        (3, (9, 9, 9, -9), "supported", Reason.ENOUGH),
        (3, (9, 9, -9, -9), "contradicted", Reason.NOT_ENOUGH),
        (4, (9, 9, 9, -9), "contradicted", Reason.NOT_ENOUGH),
        (3, (9, 9, 1, -9), "undecided", Reason.COUNT_OPEN),
    ],
)
def test_contrasts_are_counted(of_four, at_least, truths, expected, reason):
    verdict = state(of_four(at_least), truths, np.random.default_rng(0))
    assert (verdict.state, verdict.reason) == (expected, reason)


@pytest.mark.parametrize(
    ("at_least", "truths", "wrong"),
    some(
        [
            (3, (9, 9, 1, 1), "supported"),  # two hold, two lie at the margin, from which one wrong one makes three
            (3, (1, 1, 1, 1), "supported"),
            (2, (9, 1, 1, 1), "supported"),
            (3, (1.0001, 1.0001, 1.0001, -9), "contradicted"),  # three hold, barely: any that seems not to is wrong
            (2, (1.0001, 1.0001, -9, -9), "contradicted"),
        ]
    ),
)
def test_the_error_of_either_verdict_is_kept_at_the_worst_truths(of_four, at_least, truths, wrong):
    found, rng = of_four(at_least), np.random.default_rng(0)
    studies = 1500
    errors = sum(state(found, truths, rng).state == wrong for _ in range(studies))
    limit = studies * FAMILY + 3 * math.sqrt(studies * FAMILY)
    assert errors <= limit


def test_without_at_least_the_level_is_that_of_the_family(of_four):
    assert alpha_of(of_four(None)) == FAMILY
    assert [alpha_of(of_four(k)) for k in (1, 2, 3, 4)] == [FAMILY / divisor for divisor in (4, 3, 3, 4)]


def test_a_rate_at_an_edge_spoils_its_own_contrast_alone(of_four, tmp_path):
    found = of_four(3)
    edges = {cell: cell.arm == "d" for cell in found.cells}
    verdict = state(found, (9, 9, 9, -9), np.random.default_rng(0), edges=edges)
    assert verdict.state == "supported"
    assert [e.kind for e in verdict.estimates][-1] is Reason.EDGE
    edges = {cell: cell.arm in "cd" for cell in found.cells}
    assert state(found, (9, 9, 9, -9), np.random.default_rng(0), edges=edges).state == "undecided"


def test_more_than_there_are_is_refused(of_four):
    with pytest.raises(InputError, match="at_least=5: there are only 4 contrasts"):
        of_four(5)


def test_only_a_primary_has_a_successor(of_four):
    with pytest.raises(InputError, match="only a primary finding has a successor"):
        of_four(None, primary=False, succeeded_by="other")


def test_the_hash_of_a_rule_without_the_new_keys_is_what_it_was(of_four):
    assert of_four(None).rule_hash == of_four(None, succeeded_by="other").rule_hash != of_four(3).rule_hash
