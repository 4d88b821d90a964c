"""Verdicts and numbers as text: one formatter for every reader, and reasons that are data."""

import json
import math
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_studies import reported

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.findings.finding import read_finding
from normlab.findings.judge import family_p, judge
from normlab.findings.printable import printable
from normlab.findings.verdict import Reason, read_verdict, read_verdicts
from normlab.findings.wording import _SENTENCES, estimate_words, numbers_of, reason_words


@pytest.fixture
def judged(tmp_path):
    """The verdict on the planted finding, changed, with rows of an effect."""

    def verdict(effect=0.05, n=8, rows=None, planned=8, **changes):
        fixed = read_finding(write(tmp_path, finding(**changes)))
        rows = reported(effect, n, metric=fixed.metric) if rows is None else rows
        return judge(fixed, rows, planned, "quick", {})

    return verdict


@pytest.mark.parametrize("name", ["main", "one: two", "a: b: c"])
def test_a_ratio_is_a_factor_whatever_its_contrast_is_called(judged, name):
    rows = [{**row, "ms": 22.6 if row["arm"] == "layer" else 1 + row["seed"] / 1e6} for row in reported(0.0, 8)]
    verdict = judged(rows=rows, rule="ratio", margin=1.1, metric="ms", contrasts={name: "layer - batch"})
    (estimate,) = verdict.estimates
    assert estimate.mean == pytest.approx(3.12, abs=0.01)
    assert estimate_words(estimate).startswith("22.6 times [22.6, ")


def test_accuracies_are_points_and_further_metrics_plain(judged):
    rows = [{**row, "ms": 3.0 + row["seed"] / 10} for row in reported(0.05, 8)]
    verdict = judged(rows=rows, rule="ratio", margin=1.01, also={"time: each": "ms"})
    assert estimate_words(verdict.also[0]) == "+0 [+0, +0]"
    assert estimate_words(judged().estimates[0]).startswith("+5 points [+4.")


def test_every_reason_has_a_sentence_and_none_needs_more_than_its_facts(judged):
    assert set(_SENTENCES) == set(Reason)
    for verdict in (judged(), judged(planned=9), judged(0.0), judged(n=4, planned=4)):
        assert "{" not in reason_words(verdict)
    assert reason_words(replace(judged(planned=9), facts={})) == "incomplete"
    assert reason_words(judged(planned=9)) == "incomplete: layer has 8 of 9 seeds"


def test_a_verdict_comes_back_from_its_json(judged):
    verdict = judged(0.05)
    assert read_verdict(json.loads(json.dumps(asdict(verdict)))) == verdict


@pytest.mark.parametrize(
    "damage",
    [
        {"reason": "the interval holds the margin"},
        {"state": "proved"},
        {"estimates": [3]},
        {"arms": [{"cell": "layer", "n": "many"}]},
        {"primary": "yes"},
        {"margin": "0.01"},
        {"title": ["x"]},
    ],
)
def test_a_damaged_verdict_is_named_and_the_others_are_read(judged, damage, tmp_path):
    whole = json.loads(json.dumps(asdict(judged(0.05))))
    problems = []
    found = read_verdicts(
        {"verdicts": [{**whole, "finding": "bad", **damage}, None, whole]}, tmp_path / "verdicts.json", problems
    )
    assert list(found) == ["planted"]
    assert len(problems) == 2
    assert "the verdict of bad is damaged" in problems[0]


class TestWhatDecidesNothing:
    def test_arms_that_both_diverged(self, judged):
        rows = [{**row, "diverged": True} for row in reported(0.05, 8)]
        assert (judged(rows=rows).state, judged(rows=rows).reason) == ("undecided", Reason.BOTH_FAILED)

    def test_arms_that_are_both_at_chance(self, judged):
        rows = [{**row, "test/accuracy": 0.1 + 0.001 * (row["seed"] % 3)} for row in reported(0.0, 8)]
        assert judged(rows=rows).reason is Reason.BOTH_FAILED

    def test_one_arm_at_chance_is_a_result(self, judged):
        rows = [row if row["arm"] == "layer" else {**row, "test/accuracy": 0.1} for row in reported(0.05, 8)]
        assert judged(rows=rows).state == "supported"

    def test_a_gap_of_nothing_is_no_failure(self, judged):
        rows = reported(0.0, 8, metric="gap/accuracy", base=0.0)
        assert judged(rows=rows, metric="gap/accuracy", diverged_value=0.0).reason is Reason.IRRELEVANT

    @pytest.mark.parametrize("rule", ["difference", "equivalence"])
    def test_equal_pairs(self, judged, rule):
        rows = [{**row, "test/accuracy": 0.8} for row in reported(0.0, 8)]
        assert (judged(rows=rows, rule=rule).state, judged(rows=rows, rule=rule).reason) == (
            "undecided",
            Reason.NO_SPREAD,
        )


def test_two_runs_of_one_seed_are_named(judged):
    with pytest.raises(InputError, match="layer has two runs of seed 0"):
        judged(rows=[*reported(0.05, 8), reported(0.02, 8)[0]])


class TestFamily:
    def test_it_depends_on_who_is_in_it_when_it_is_read(self, judged):
        other = replace(judged(0.02), finding="other")
        alone, both = family_p([judged(0.05)]), family_p([judged(0.05), other])
        assert alone["planted"] == pytest.approx(6 * judged(0.05).margin_p)
        assert both["other"] == pytest.approx(max(5 * other.margin_p, both["planted"]))
        assert "holm_p" not in asdict(other)

    def test_it_is_against_the_margin_and_none_where_the_claim_fails(self, judged):
        assert judged(0.05).margin_p > judged(0.05).estimates[0].p / 2
        for effect in (-0.05, 0.0):
            assert family_p([judged(effect)]) == {}

    @given(st.floats(-0.05, 0.05))
    def test_it_and_the_interval_agree(self, effect):
        from normlab.stats.paired import margin_p, t_interval

        d = [effect + x for x in (-0.02, -0.01, 0.0, 0.005, 0.01, 0.015)]
        for alpha in (0.05, 0.05 / 6):
            assert (margin_p(d, 0.01) < alpha / 2) == (t_interval(d, alpha).low > 0.01)
            inside = t_interval(d, alpha).low > -0.01 and t_interval(d, alpha).high < 0.01
            assert (margin_p(d, 0.01, within=True) < alpha / 2) == inside


def test_numbers_have_a_line_each(judged, tmp_path):
    verdict = judged(0.05)
    (line,) = numbers_of(verdict, read_finding(tmp_path / "finding/planted.yaml"))
    assert line.startswith("main: layer \N{MINUS SIGN} batch = +5 points [")
    assert line.endswith(", n = 8, margin 1 point")


@given(st.text())
def test_what_is_printable_goes_through_xml_and_utf8(text):
    from xml.etree import ElementTree
    from xml.sax.saxutils import escape

    shown = printable(text)
    ElementTree.fromstring(f"<a>{escape(shown)}</a>".encode())
    assert printable(shown) == shown
    assert len(shown) == len(text)


def test_infinity_is_no_estimate(judged):
    values = json.loads(json.dumps(asdict(judged(0.05))))
    values["estimates"][0]["mean"] = math.inf
    with pytest.raises(ValueError, match="inf"):
        read_verdict(values)
