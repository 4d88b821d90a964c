"""Findings: what their files may say, and what follows from rows by their rules."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.findings.formula import Cell, parse
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.findings.states import state_of
from normlab.findings.tuning import TuningScores, half_decade, widened
from normlab.findings.wording import reason_words


def rows(values: dict[str, list[float]], metric: str = "test/accuracy", **more):
    return [
        {"arm": arm, "condition": "", "point": 0.01, "seed": seed, "id": f"{arm}-{seed}", metric: value, **more}
        for arm, column in values.items()
        for seed, value in enumerate(column)
    ]


def noise(n: int, sd: float = 0.001) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sd, n)


class TestFormula:
    def test_signs_conditions_and_constants(self):
        formula = parse("layer@sorted - batch - 1.211")
        assert formula.weights == {Cell("layer", "sorted"): 1, Cell("batch"): -1}
        assert formula.constant == -1.211
        assert str(formula.at("plain")) == "layer@sorted - batch@plain - 1.211"

    @pytest.mark.parametrize(
        ("text", "flipped", "ratio", "shown"),
        [
            ("layer - batch", False, False, "layer − batch"),
            ("layer - batch", True, False, "batch − layer"),
            ("layer - batch", True, True, "batch over layer"),
            ("two - 1", True, True, "1 over two"),
            ("two - 1", False, True, "two"),
            ("batch - 1.211", True, False, "1.211 − batch"),
            ("a@x - a@y - b@x + b@y", False, True, "a@x × b@y over a@y × b@x"),
        ],
    )
    def test_it_is_shown_as_its_values_are_signed(self, text, flipped, ratio, shown):
        assert parse(text).signed(flipped=flipped, ratio=ratio) == shown

    @pytest.mark.parametrize("text", ["", "layer batch", "layer * batch", "layer - layer", "layer -", "3"])
    def test_what_is_no_sum_of_arms_is_refused(self, text):
        with pytest.raises(InputError):
            parse(text)


class TestFile:
    def test_reads(self, tmp_path):
        found = read_finding(write(tmp_path, finding()))
        assert [str(cell) for cell in found.cells] == ["layer", "batch"]
        assert found.choices(Cell("batch"), "quick") == ["model=lstm", "norm=batch", "trainer.steps=10"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"rule": None}, "finding.rule has no value"),
            ({"metric": None}, "finding.metric has no value"),
            ({"margin": None}, "margin is missing"),
            ({"margin": -1}, "finding.margin=-1"),
            ({"rule": "ratio", "margin": 0.9}, "factor of at least 1"),
            (
                {"contrasts": {"a": "layer - group"}},
                "contrasts.a names group, which is not a cell; there are layer, batch",
            ),
            ({"contrasts": {"a": "layer"}}, "an arm with nothing to be compared with"),
            ({"arms": {"layer": [], "batch": [], "rms": []}}, "arms.rms is in no contrast"),
            ({"claim": 7}, "finding.claim=7"),
            ({"name": "other"}, "must be the file's name"),
            ({"diverged_value": None}, "diverged_value is missing"),
            ({"colour": "red"}, "there is no key finding.colour"),
            ({"rule": "exact"}, "rule=exact needs bounds"),
            ({"common": ["model=lstm", "model=lstm"]}, "common lists model=lstm twice"),
            ({"tune": {"points": [1, 2], "by": "validation/loss", "best": "min"}}, "finding.tune.points"),
            ({"tune": {"points": [1, 2, 3, 4, 5], "by": "test/loss", "best": "min"}}, "uses a validation metric"),
        ],
    )
    def test_mistakes_are_named_by_file_and_key(self, tmp_path, change, words):
        with pytest.raises(InputError, match=words) as raised:
            read_finding(write(tmp_path, finding(**change)))
        assert "planted.yaml" in str(raised.value)

    def test_an_unknown_finding_lists_the_known(self, tmp_path):
        write(tmp_path, finding())
        with pytest.raises(InputError, match="no finding 'nothing'; there are planted"):
            read_finding(tmp_path / "finding" / "nothing.yaml")

    def test_the_rule_changes_with_the_margin_and_not_with_words(self, tmp_path):
        base, other = (read_finding(write(tmp_path, finding(**c))).rule_hash for c in ({}, {"title": "x"}))
        assert base == other
        assert base != read_finding(write(tmp_path, finding(margin=0.02))).rule_hash


class TestTuning:
    def test_the_best_mean_is_chosen_and_ties_go_to_the_smaller(self):
        assert TuningScores({0.1: [1, 3], 0.01: [2, 2], 1.0: [0, 0]}, "max").chosen == 0.01
        assert TuningScores({0.1: [1, 3], 0.01: [3, 2], 1.0: [0, 0]}, "min").chosen == 1.0

    def test_a_run_that_diverged_spoils_its_point(self):
        assert TuningScores({0.1: [1, math.inf], 0.01: [2, 2]}, "min").chosen == 0.01

    @given(st.integers(-6, 3), st.sampled_from([1, 3]))
    def test_half_decades_go_there_and_back(self, exponent, digit):
        point = float(f"{digit}e{exponent}")
        assert half_decade(half_decade(point, 1), -1) == pytest.approx(point)
        assert half_decade(point, 1) / point == pytest.approx(10 / 3 if digit == 3 else 3)

    def test_an_edge_widens_twice_at_most(self, tmp_path):
        tuning = read_finding(write(tmp_path, finding())).tune
        points = list(tuning.points)
        for expected in ([0.0003], [0.0001], []):
            falling = TuningScores({p: [1 / p] for p in points}, "max")
            inner = TuningScores({p: [-abs(math.log(p / 0.01))] for p in points}, "max")
            added = widened(tuning, points, [inner, falling])
            assert added == pytest.approx(expected)
            points = sorted(points + added)


class TestRule:
    @pytest.mark.parametrize(
        ("low", "high", "expected"),
        [
            (0.02, 0.03, ("supported", "")),
            (0.005, 0.03, ("undecided", "interval_includes_margin")),
            (-0.03, -0.02, ("contradicted", "opposite")),
            (-0.005, 0.005, ("contradicted", "no_relevant_difference")),
            (-0.03, 0.005, ("contradicted", "too_small")),
            (-0.03, 0.03, ("undecided", "interval_includes_margin")),
        ],
    )
    def test_difference(self, low, high, expected):
        assert state_of("difference", 0.01, low, high) == expected

    @pytest.mark.parametrize(
        ("low", "high", "state"),
        [
            (-0.005, 0.005, "supported"),
            (0.02, 0.03, "contradicted"),
            (-0.03, -0.02, "contradicted"),
            (0, 0.02, "undecided"),
        ],
    )
    def test_equivalence(self, low, high, state):
        assert state_of("equivalence", 0.01, low, high)[0] == state

    @pytest.mark.parametrize(("effect", "state"), [(0.05, "supported"), (0.0, "contradicted"), (-0.05, "contradicted")])
    def test_a_planted_effect_is_found_and_a_planted_null_is_not(self, tmp_path, effect, state):
        table = rows({"layer": list(0.8 + effect + noise(8)), "batch": [0.8] * 8})
        assert judge(read_finding(write(tmp_path, finding())), table, 8, "quick", {}).state == state

    def test_a_lower_metric_favours_the_first_arm(self, tmp_path):
        table = rows({"layer": list(1.7 + noise(8)), "batch": [1.8] * 8}, metric="test/loss")
        verdict = judge(
            read_finding(write(tmp_path, finding(metric="test/loss", better="lower", diverged_value=2.3))),
            table,
            8,
            "q",
            {},
        )
        assert verdict.state == "supported"
        assert verdict.deciding.mean == pytest.approx(0.1, abs=0.01)
        assert verdict.deciding.interval.level == pytest.approx(1 - 0.05 / 6)

    def test_a_ratio_is_judged_in_logarithms(self, tmp_path):
        found = read_finding(
            write(
                tmp_path,
                finding(
                    rule="ratio", margin=1.05, metric="ratio", better="lower", arms={"layer": []},
                    contrasts={"a": "layer - 1"}, tune=None, seeds="process",
                ),
            )
        )  # fmt: skip
        table = rows({"layer": [0.8 + 0.001 * i for i in range(8)]}, metric="ratio")
        verdict = judge(found, table, 8, "quick", {})
        assert verdict.state == "supported"
        assert math.exp(verdict.deciding.mean) == pytest.approx(1 / 0.8035, rel=1e-3)

    def test_every_contrast_must_hold(self, tmp_path):
        found = read_finding(
            write(
                tmp_path,
                finding(
                    arms={"layer": [], "batch": [], "none": []},
                    contrasts={"a": "layer - none", "b": "batch - none"},
                ),
            )
        )
        for a, b in product((0.05, 0.0), repeat=2):
            table = rows({"layer": list(0.8 + a + noise(8)), "batch": list(0.8 + b - noise(8)), "none": [0.8] * 8})
            verdict = judge(found, table, 8, "quick", {})
            assert verdict.state == ("supported" if a and b else "contradicted")
            if (a > 0) != (b > 0):
                assert verdict.decides == ("b" if a else "a")

    def test_a_diverged_run_counts_as_chance_next_to_the_verdict(self, tmp_path):
        table = rows({"layer": list(0.8 + noise(8)), "batch": [0.8] * 8})
        table[8] |= {"diverged": True, "test/accuracy": None}
        verdict = judge(read_finding(write(tmp_path, finding())), table, 8, "quick", {})
        assert verdict.arms[1].diverged == 1
        assert verdict.deciding.mean_of_all == pytest.approx(0.7 / 8, abs=0.01)
        assert max(verdict.deciding.values) < 0.01

    def test_a_missing_number_is_no_zero(self, tmp_path):
        table = rows({"layer": [0.8] * 8, "batch": [0.8] * 8})
        del table[3]["test/accuracy"]
        with pytest.raises(InputError, match="run layer-3 has no test/accuracy"):
            judge(read_finding(write(tmp_path, finding())), table, 8, "quick", {})

    def test_what_is_not_complete_or_at_an_edge_is_undecided(self, tmp_path):
        found = read_finding(write(tmp_path, finding()))
        table = rows({"layer": list(0.9 + noise(8)), "batch": [0.8] * 8})
        cases = {
            "incomplete: layer has 7 of 8 seeds": judge(found, table[1:], 8, "quick", {}),
            "edge: the best rate of batch is at an end of the grid, 0.01": judge(
                found, table, 8, "quick", {Cell("batch"): True}
            ),
            "2 seeds are too few for a verdict, which needs 8": judge(
                found, [r for r in table if r["seed"] < 2], 2, "smoke", {}
            ),
        }
        for reason, verdict in cases.items():
            assert verdict.state == "undecided"
            assert reason_words(verdict) == reason

    def test_an_exploratory_finding_has_no_verdict(self, tmp_path):
        table = rows({"layer": list(0.9 + noise(8)), "batch": [0.8] * 8})
        verdict = judge(read_finding(write(tmp_path, finding(primary=False))), table, 8, "quick", {})
        assert (verdict.state, verdict.deciding.state) == ("estimate", "estimate")
        assert verdict.deciding.interval.level == pytest.approx(0.95)

    @pytest.mark.parametrize(("value", "state"), [(0.0, "supported"), (1e-12, "contradicted")])
    def test_exact_allows_nothing(self, tmp_path, value, state):
        change = {
            "rule": "exact", "margin": None, "contrasts": None, "tune": None, "seeds": "exact",
            "bounds": {"layer": {"coupling": [0, 0]}, "batch": {"coupling": [0.01, None]}},
        }  # fmt: skip
        table = rows({"layer": [0.0, value], "batch": [0.5, 0.6]}, metric="coupling")
        verdict = judge(read_finding(write(tmp_path, finding(**change))), table, 2, "quick", {})
        assert verdict.state == state
        assert "layer: coupling" in verdict.decides
