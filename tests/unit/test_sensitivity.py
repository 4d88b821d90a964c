"""A verdict under other margins and fewer seeds, from rows that are made up."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from made_up_studies import reported

from finding_files import finding, write
from normlab.command_line.guard import guard
from normlab.findings.formula import Cell
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.folder.study_table import write_rows
from normlab.results.rejudge import read_evidence
from normlab.results.sensitivity import FACTORS, by_margin, by_seeds, sensitivity

ROOT = Path(__file__).parents[2]


@pytest.fixture
def planted(tmp_path):
    return lambda **changes: read_finding(write(tmp_path, finding(**changes)))


def states(looks):
    return [one.state for one in looks]


def test_a_larger_margin_asks_for_more(planted):
    found = sensitivity(planted(), reported(0.022), 10, {})
    assert [one.margin for one in found.margins] == pytest.approx([0.0025, 0.005, 0.01, 0.02, 0.04])
    assert states(found.margins) == ["supported", "supported", "supported", "undecided", "contradicted"]


def test_every_variation_is_the_verdict_of_such_a_file(planted):
    table = reported(0.022)
    found = sensitivity(planted(), table, 10, {})
    for one in found.margins:
        verdict = judge(planted(margin=one.margin), table, 10, "", {})
        assert one.state == verdict.state
        assert (one.deciding.name, one.deciding.interval) == (verdict.decides, verdict.deciding.interval)
    for one in found.seeds:
        verdict = judge(planted(), [row for row in table if row["seed"] < one.seeds], one.seeds, "", {})
        assert (one.state, one.reason) == (verdict.state, verdict.reason)


def test_a_wider_margin_helps_equivalence(planted):
    found = sensitivity(planted(rule="equivalence"), reported(0.001), 10, {})
    assert states(found.margins) == ["undecided", "undecided", "supported", "supported", "supported"]


def test_the_margin_of_a_ratio_is_scaled_in_logarithms(planted):
    ratio = planted(rule="ratio", margin=1.1, metric="ms", better="higher")
    found = sensitivity(ratio, reported(0.25, metric="ms", base=1.0), 10, {})
    assert [one.margin for one in found.margins] == pytest.approx([1.1**factor for factor in FACTORS])
    assert states(found.margins) == ["supported"] * 4 + ["contradicted"]
    assert by_seeds([found]).rows[-1][-1].startswith("1.25 times [1.2")


def test_fewer_seeds_down_to_those_that_a_verdict_needs(planted):
    found = sensitivity(planted(), reported(0.05, n=11), 11, {})
    assert [one.seeds for one in found.seeds] == [8, 10, 11]
    assert [one.state_words for one in found.seeds] == ["supported"] * 3
    widths = [one.deciding.interval.high - one.deciding.interval.low for one in found.seeds]
    assert widths[0] > widths[-1]


def test_an_edge_says_what_it_would_be_without(planted):
    found = sensitivity(planted(), reported(0.05), 10, {Cell("batch"): True})
    assert {one.state for one in found.margins} == {"undecided"}
    assert [one.would_be for one in found.margins] == ["supported"] * 4 + ["supported"]
    assert by_margin([found]).rows[0][-1].startswith("edge: the best rate of batch is at an end")


def test_every_contrast_counts(planted):
    change = {"contrasts": {"a": "layer - batch", "b": "batch - layer"}}
    (one,) = sensitivity(planted(**change), reported(0.05, n=8), 8, {}).seeds
    assert (one.would_be, one.deciding.name) == ("contradicted", "b")


def test_exact_has_no_margin(planted):
    exact = planted(
        rule="exact", margin=None, contrasts=None, tune=None, seeds="exact", bounds={"layer": {"test/accuracy": [0, 1]}}
    )
    found = sensitivity(exact, reported(0.05, n=4), 4, {})
    assert found.margins == []
    assert [(one.seeds, one.state, one.deciding) for one in found.seeds] == [(4, "supported", None)]
    (row,) = by_margin([found]).rows
    assert row == ["2", "planted", "exact", "none", "4", "", "", "supported", "", "", ""]


def test_sheets_are_rectangular(planted):
    found = [sensitivity(planted(), reported(0.05), 10, {})]
    for sheet in (by_margin(found), by_seeds(found)):
        assert {len(row) for row in sheet.rows} == {len(sheet.header)}
    assert by_seeds(found).rows[-1][2:5] == ["10", "supported", "main"]


class TestReport:
    """`normlab report --sensitivity`, inside this process."""

    @pytest.fixture
    def report(self, tmp_path, monkeypatch, capsys):
        module = importlib.import_module("normlab.commands.report")
        reads = lambda folder: read_evidence(folder, tmp_path / "conf", tmp_path / "reference")  # noqa: E731
        monkeypatch.setattr(module, "read_evidence", reads)
        monkeypatch.setattr(module, "REFERENCE", tmp_path / "reference")
        monkeypatch.chdir(tmp_path)
        write(tmp_path / "conf", finding(tune=None))

        def command(*arguments):
            try:
                with guard():
                    module.main(arguments)
            except SystemExit as end:
                return int(end.code or 0), capsys.readouterr()
            return 0, capsys.readouterr()

        return command

    def study(self, folder, effect):
        folder.mkdir(parents=True)
        write_rows(folder / "runs.csv", reported(effect, n=8))

    def test_ones_own_study_comes_before_the_reference(self, report, tmp_path):
        self.study(tmp_path / "reference" / "quick", 0.05)
        status, printed = report("--sensitivity")
        assert (status, "supported" in printed.out, "contradicted" in printed.out) == (0, True, False)
        self.study(tmp_path / "outputs" / "studies" / "textbook-quick", -0.05)
        status, printed = report("--sensitivity")
        assert (status, "supported" in printed.out, "contradicted" in printed.out) == (0, False, True)

    def test_markdown(self, report, tmp_path):
        self.study(tmp_path / "own", 0.05)
        assert report("--sensitivity", "--study", "own", "--output", "s.md")[0] == 0
        lines = (tmp_path / "s.md").read_text().splitlines()
        assert lines[0] == "# Sensitivity of own"
        tables = [line for line in lines if line.startswith("|")]
        assert "| 2 | planted | difference | 1 point | 8 | supported |" in tables[2]
        assert sum("| 8 | supported | main |" in line for line in tables) == 1

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("--sensitivity", "--study", "nowhere"), "nowhere is not the folder of a study"),
            (("--sensitivity",), "is not the folder of a study: it has no runs.csv"),
            (("--sensitivity", "--output", "own"), "'own' is a folder; name a file"),
            (("--sensitivity", "--output", "nowhere/s.md"), "there is no folder 'nowhere'"),
            (("--sensitivity", "--output", "own.csv"), "must end in .md"),
            (("--study", "nowhere"), "nowhere is not the folder of a study"),
        ],
    )
    def test_what_is_not_there_is_said(self, report, tmp_path, arguments, words):
        if "--output" in arguments:
            self.study(tmp_path / "own", 0.05)
            arguments = (*arguments, "--study", "own")
        status, printed = report(*arguments)
        assert (status, words in printed.err) == (2, True)

    def test_it_imports_no_torch(self):
        code = (
            "import sys, normlab.commands.report\n"
            "print([m for m in ('torch', 'pytorch_lightning', 'hydra') if m in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
