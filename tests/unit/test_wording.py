"""Verdicts and numbers as text: one formatter for every reader, and reasons that are data."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_studies import reported

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.findings.judge import judge
from normlab.findings.printable import printable
from normlab.findings.read import read_finding
from normlab.findings.stored import read_verdict, read_verdicts, stored
from normlab.findings.verdict import ArmSummary, Bound, Reason
from normlab.findings.wording import _SENTENCES, bound_words, estimate_words, numbers_of, reason_words, score_words
from normlab.study.printed import arm_line


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
    assert estimate_words(verdict.also[0]) == "+0 (all seeds equal: no interval)"
    assert estimate_words(judged().estimates[0]).startswith("+5 points [+3.9")


def test_every_reason_has_a_sentence_and_none_needs_more_than_its_facts(judged):
    assert set(_SENTENCES) == set(Reason)
    for verdict in (judged(), judged(planned=9), judged(0.0), judged(n=4, planned=4)):
        assert "{" not in reason_words(verdict)
    assert reason_words(replace(judged(planned=9), facts={})) == "incomplete"
    assert reason_words(judged(planned=9)) == "incomplete: layer has 8 of 9 seeds"


def test_a_verdict_comes_back_from_its_json(judged):
    verdict = judged(0.05)
    assert read_verdict(json.loads(json.dumps(stored(verdict)))) == verdict


def test_limits_that_are_infinite_are_null_in_json(judged):
    verdict = judged(rows=[{**row, "test/accuracy": 0.8} for row in reported(0.0, 8)])
    text = json.dumps(stored(verdict), allow_nan=False)
    assert json.loads(text)["estimates"][0]["interval"] == {"low": None, "high": None, "level": verdict.level}
    assert read_verdict(json.loads(text)) == verdict
    assert estimate_words(verdict.estimates[0]) == "+0 points (all seeds equal: no interval)"


def test_a_file_of_an_earlier_version_is_read(judged):
    """Which had p, an effect and a bootstrap interval, and no looks."""
    values = json.loads(json.dumps(stored(judged(0.05))))
    old = {
        "p": 0.1,
        "sign_flip_p": 0.1,
        "effect": 3.0,
        "margin_p": 0.01,
        "bootstrap": values["estimates"][0]["interval"],
    }
    (estimate,) = values["estimates"]
    values["estimates"] = [old | {k: v for k, v in estimate.items() if k not in ("left_out", "sides", "failed")}]
    del values["looks"]
    found = read_verdict(values)
    assert (found.state, found.deciding.failures) == ("supported", None)
    assert "bootstrap" not in stored(found)["estimates"][0]


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
    whole = json.loads(json.dumps(stored(judged(0.05))))
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
        rows = reported(0.0, 12, metric="gap/accuracy", base=0.0)
        verdict = judged(rows=rows, planned=12, metric="gap/accuracy", diverged_value=0.0)
        assert verdict.reason is Reason.IRRELEVANT

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


class TestFailures:
    """Scores are compared where no run failed, and failures on their own."""

    def rows(self, layer=(), batch=(), effect=0.05, n=12, how="diverged"):
        bad = {"diverged": True, "test/accuracy": None} if how == "diverged" else {"test/accuracy": 0.1}
        failed = {"layer": layer, "batch": batch}
        return [{**row, **(bad if row["seed"] in failed[row["arm"]] else {})} for row in reported(effect, n)]

    @pytest.mark.parametrize("how", ["diverged", "chance"])
    def test_a_failed_run_takes_its_pair_out_of_the_scores(self, judged, how, tmp_path):
        verdict = judged(rows=self.rows(batch=[3], how=how), planned=12)
        (estimate,) = verdict.estimates
        assert verdict.state == "supported"
        assert (estimate.left_out, estimate.failed, len(estimate.values)) == ([3], [[], [3]], 11)
        assert max(estimate.values) < 0.1
        assert estimate.mean_of_all > estimate.mean
        lines = numbers_of(verdict, read_finding(tmp_path / "finding/planted.yaml"))
        assert lines[1] == ("main: on the 11 of 12 seeds on which no run failed; 0 of layer and 1 of batch failed")
        assert lines[2].startswith("main: rate of failure, layer minus batch: \N{MINUS SIGN}8% [")
        assert lines[3].startswith("main: with failed runs counted as chance: +1")

    def test_what_no_failure_rules_out_is_said(self, judged, tmp_path):
        lines = numbers_of(judged(0.05), read_finding(write(tmp_path, finding())))
        assert lines[1] == (
            "main: no run failed in 8 seeds; a failure rate of up to 37% per arm is not excluded (95 %)"
        )

    def test_too_few_pairs_are_left(self, judged):
        verdict = judged(rows=self.rows(batch=range(5)), planned=12)
        assert (verdict.state, verdict.reason, verdict.deciding.interval) == ("undecided", Reason.FEW_PAIRS, None)
        assert reason_words(verdict) == "only 7 seeds of main have no failed run, and a verdict about scores needs 8"

    def test_the_better_scores_of_an_arm_that_fails_more_often_support_nothing(self, judged):
        rows = self.rows(layer=range(10), n=24)
        verdict = judged(rows=rows, planned=24)
        assert (verdict.state, verdict.reason) == ("undecided", Reason.FAILURES)
        assert reason_words(verdict) == "layer failed more often, which the scores of main don't show"
        assert judged(rows=self.rows(batch=range(10), n=24), planned=24).state == "supported"
        assert judged(rows=self.rows(batch=range(10), n=24, effect=0.0), planned=24).reason is Reason.FAILURES

    def test_an_arm_that_always_fails_has_chance_as_its_score(self, judged):
        verdict = judged(rows=self.rows(batch=range(8), n=8))
        assert (verdict.state, verdict.deciding.left_out) == ("supported", [])
        against = judged(rows=self.rows(batch=range(8), n=8), contrasts={"main": "batch - layer"})
        assert against.reason is Reason.OPPOSITE

    def test_most_runs_of_both_failing_is_no_difference(self, judged):
        verdict = judged(rows=self.rows(range(7), range(1, 8), n=12), planned=12)
        assert (verdict.state, verdict.reason) == ("undecided", Reason.BOTH_FAILED)

    def test_it_comes_back_from_json(self, judged):
        verdict = judged(rows=self.rows(batch=[3]), planned=12)
        assert read_verdict(json.loads(json.dumps(stored(verdict)))) == verdict


def test_numbers_have_a_line_each(judged, tmp_path):
    verdict = judged(0.05)
    line, _ = numbers_of(verdict, read_finding(tmp_path / "finding/planted.yaml"))
    assert line.startswith("main: layer norm \N{MINUS SIGN} batch norm = +5 points [")
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
    values = json.loads(json.dumps(stored(judged(0.05))))
    values["estimates"][0]["mean"] = math.inf
    with pytest.raises(ValueError, match="inf"):
        read_verdict(values)


def test_scores_are_shown_in_per_cent_if_they_are_accuracies():
    assert score_words(0.81234, "test/accuracy") == "81.23\N{NO-BREAK SPACE}%"
    assert score_words(0.81234, "test/loss") == "0.8123"
    arm = ArmSummary("layer", n=8, mean=0.8123, sd=0.0042, diverged=0, point=0.01, edge=False, metrics={})
    assert arm_line(arm, "test/accuracy") == "layer: 81.23\N{NO-BREAK SPACE}% ± 0.42 (n = 8, rate 0.01)"
    assert arm_line(arm, "test/loss") == "layer: 0.8123 ± 0.0042 (n = 8, rate 0.01)"
    bound = Bound("layer", "gap/accuracy", 0.25, 0.25, least=0.1, most=None)
    assert bound_words(bound) == "gap/accuracy = 25\N{NO-BREAK SPACE}%, expected ≥ 10\N{NO-BREAK SPACE}%"
