"""The files of a run and of a study are read back as they were written, and damage in them is named."""

import pytest

from normlab.folder.results import run_folders
from normlab.folder.run_folder import RunFolder
from normlab.folder.study_folder import StudyFolder, studies_below
from normlab.sweep.plan import Outcome, outcome_file, read_outcome, write_outcome


def test_rows_are_kept_as_logged_and_the_first_damaged_line_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.read_rows() == ([], "")
    rows = [{"step": step, "loss": step / 3} for step in range(5)]
    for row in rows:
        folder.append_row(row)
    assert folder.read_rows() == (rows, "")
    before = folder.hash_rows(3)
    folder.keep_rows(3)
    assert folder.read_rows().rows == rows[:3]
    assert folder.hash_rows(3) == before
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('[1]\n{"step": 4}\n{"step": ')
    found, problem = folder.read_rows()
    assert found == [*rows[:3], {"step": 4}]
    assert problem.endswith("metrics.jsonl, line 4 is damaged")


def test_a_summary_is_read_only_if_it_is_what_the_run_wrote(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_status({"state": "finished", "summary": folder.write_summary({"loss": 1.0})})
    assert folder.read_summary() == {"loss": 1.0}
    path = tmp_path / "summary.json"
    path.write_text(path.read_text().replace("1.0", "3.0"))
    assert folder.read_summary() == {}


def test_folders_are_found_below_the_results(tmp_path):
    assert list(run_folders(tmp_path)) == list(studies_below(tmp_path)) == []
    for name in ("b", "a", ".gone"):
        RunFolder.at(tmp_path, name).folder.mkdir(parents=True)
    study = StudyFolder.at(tmp_path, "textbook-quick")
    study.write_plan({"runs": {}})
    assert [run.folder.name for run in run_folders(tmp_path)] == ["a", "b"]
    assert [run.output for run in run_folders(tmp_path)] == [tmp_path, tmp_path]
    assert list(studies_below(tmp_path)) == [study]
    assert study.holds_study()
    assert study.output == tmp_path


@pytest.mark.parametrize("content", ['{"state": 3}', '{"state": "failed", "cause": [], "log": 1}', '{"a": 1}', "[["])
def test_the_damaged_record_of_a_job_counts_as_none(tmp_path, content):
    plan = tmp_path / "0001.json"
    write_outcome(plan, Outcome("failed", "why"))
    assert read_outcome(plan) == Outcome("failed", "why")
    outcome_file(plan).write_text(content)
    assert read_outcome(plan) is None
