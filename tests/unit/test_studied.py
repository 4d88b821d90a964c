"""What a diagnosis cites of our own studies is what the reference holds."""

import pytest

from normlab.config.shipped import REFERENCE
from normlab.diagnoses.diagnosis import Diagnosis, Severity
from normlab.diagnoses.studied import CAUSES, studied
from normlab.folder.study_folder import StudyFolder


def estimate_of(asked):
    (verdict,) = (v for v in StudyFolder(REFERENCE / asked.study).read_verdicts() if v["finding"] == asked.finding)
    (estimate,) = (e for e in verdict["estimates"] if e["name"] == asked.contrast)
    return estimate


@pytest.mark.parametrize("cause", CAUSES)
def test_the_numbers_are_those_of_the_reference(cause):
    said = studied(cause).split("; ")
    for asked, sentence in zip(CAUSES[cause], said, strict=True):
        estimate = estimate_of(asked)
        assert sentence.startswith(f"{asked.finding}, n = {len(estimate['seeds'])}: ")
        if not estimate["ratio"]:
            digits = next(d for d in (".0f", "+.1f", ".1f") if f":{d}}}" in asked.sentence)
            shown = f"{asked.scale * estimate['mean']:{digits}}".replace("-", "\N{MINUS SIGN}")
            assert f" {shown} points" in sentence


@pytest.mark.parametrize("asked", [kind[0] for kind in CAUSES.values()])
def test_what_a_sentence_takes_for_granted_is_supported(asked):
    assert estimate_of(asked)["state"] == "supported"


def test_few_examples_are_not_few_values_in_a_cnn():
    """What an LSTM loses, a CNN doesn't: both are said."""
    assert "in a CNN, whose statistics are over positions as well" in studied("few_examples")


def test_what_was_not_studied_cites_nothing(tmp_path):
    assert studied("zero_gain") == ""
    assert studied("few_examples", tmp_path) == ""


def test_a_diagnosis_ends_with_what_was_studied():
    found = Diagnosis("few_examples", Severity.SEVERE, ("norm",), "two examples", {"examples": 2.0}, "net.norm = ...")
    assert str(found).splitlines()[-1].strip().startswith("# studied: lstm_batch_size, n = ")
