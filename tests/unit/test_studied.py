"""What a diagnosis cites of our own studies is what the reference holds."""

import pytest

from normlab.config.shipped import REFERENCE
from normlab.diagnoses.diagnosis import Diagnosis, Severity
from normlab.diagnoses.studied import CAUSES, studied
from normlab.folder.study_folder import StudyFolder


@pytest.mark.parametrize("cause", CAUSES)
def test_the_numbers_are_those_of_the_reference(cause):
    asked = CAUSES[cause]
    (verdict,) = (v for v in StudyFolder(REFERENCE / "quick").read_verdicts() if v["finding"] == asked.finding)
    (estimate,) = (e for e in verdict["estimates"] if e["name"] == asked.contrast)
    assert estimate["state"] == "supported"  # the sentence says so
    said = studied(cause)
    assert said.startswith(f"{asked.finding}, n = {len(estimate['seeds'])}: ")
    if not estimate["ratio"]:
        digits = ".0f" if asked.sentence.count(":.0f") else ".1f"
        assert f" {asked.scale * estimate['mean']:{digits}} points" in said


def test_what_was_not_studied_cites_nothing(tmp_path):
    assert studied("zero_gain") == ""
    assert studied("few_examples", tmp_path) == ""


def test_a_diagnosis_ends_with_what_was_studied():
    found = Diagnosis("few_examples", Severity.SEVERE, ("norm",), "two examples", {"examples": 2.0}, "net.norm = ...")
    assert str(found).splitlines()[-1].strip().startswith("# studied: lstm_batch_size, n = ")
