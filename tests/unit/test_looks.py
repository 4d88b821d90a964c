"""Looks fixed in advance: a primary ends when it is decided, and what was seen can't be unseen."""

import shutil
from dataclasses import replace

import pytest
import test_study
from rejudged_studies import differences, rejudge

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.findings.read import read_finding
from normlab.findings.verdict import Reason
from normlab.findings.wording import reason_words
from normlab.folder.looks import LooksFile
from normlab.folder.study_folder import StudyFolder
from normlab.stats import power
from normlab.stats.sequential import seeds_needed, spread_bound
from normlab.study.budget import expected_seeds
from normlab.study.ledger import Ledger
from slowly import some

world = test_study.world  # the fixture
TWO = ("scale.seeds.training=12", "scale.looks.training=[8,12]")


@pytest.fixture
def planted(world):
    """The world without tuning, where most of the runs would be."""
    write(world.conf, finding(tune=None))
    return world


def seen(world):
    return [(look["n"], look["state"]) for look in LooksFile(world.output, "planted", "quick").read()]


def test_what_is_decided_at_the_first_look_ends_there(planted):
    planted.effect = 0.5
    (verdict,) = planted(*TWO)
    assert (verdict.state, verdict.looks, len(planted.done)) == ("supported", [8, 12], 2 * 8)
    assert seen(planted) == [(8, "supported")]
    folder = planted.output / "studies" / "planted-quick"
    assert differences(folder, rejudge(folder, planted.conf)) == []


def test_what_is_open_takes_the_next_look_and_is_undecided_at_the_cap(planted, capsys):
    planted.effect = 0.0105
    (verdict,) = planted(*TWO)
    assert (verdict.state, verdict.reason, verdict.first) == ("undecided", Reason.AT_MARGIN, None)
    assert len(planted.done) == 2 * 12
    assert seen(planted) == [(8, "undecided"), (12, "undecided")]
    assert "planted: open after 8 of at most 12 seeds" in capsys.readouterr().out
    (again,) = planted(*TWO)
    assert (again, planted.done) == (verdict, [])
    assert len(seen(planted)) == 2


def test_a_study_stopped_within_its_third_look_records_the_verdict_of_its_last(planted):
    """Resumed, its first look has fewer runs than the table, and its last one more."""
    three = ("scale.seeds.training=14", "scale.looks.training=[8,12,14]")
    planted.effect = 0.0105

    def stopped(config, effect):
        if len(planted.done) > 2 * 12:
            raise KeyboardInterrupt
        return test_study.accuracy(config, effect)

    planted.behaviour = stopped
    with pytest.raises(KeyboardInterrupt):
        planted(*three)
    planted.behaviour = test_study.accuracy
    (verdict,) = planted(*three)
    folder = StudyFolder.at(planted.output, "planted-quick")
    assert [(v["finding"], v["state"]) for v in folder.read_verdicts()] == [("planted", verdict.state)]
    assert folder.read_manifest()["rules"].keys() == {"planted"}
    assert differences(folder.folder, rejudge(folder.folder, planted.conf)) == []


def test_a_look_can_be_neither_unseen_nor_taken_again(planted):
    planted.effect = 0.0105
    planted(*TWO)
    shutil.rmtree(planted.output / "studies")
    shutil.rmtree(planted.output / "runs")
    planted.effect = 0.5
    (verdict,) = planted(*TWO)
    assert (verdict.state, verdict.reason) == ("undecided", Reason.KEPT)
    assert reason_words(verdict) == "the first verdict, at 12 seeds, used up the planned looks and is kept"
    folder = planted.output / "studies" / "planted-quick"
    assert differences(folder, rejudge(folder, planted.conf)) == []


def test_a_verdict_of_an_earlier_version_does_not_stand(planted):
    """Which held Student's interval against the margin, and recorded no planned looks."""
    planted.effect = 0.0105
    planted()
    LooksFile(planted.output, "planted", "quick").path.unlink()
    folder = StudyFolder.at(planted.output, "planted-quick")
    (look,) = folder.read_looks()["planted"]
    old = {key: value for key, value in (look | {"state": "supported"}).items() if key not in ("looks", "study")}
    folder.write_verdicts(folder.read_verdicts(), {"planted": [old]})
    (verdict,) = planted()
    assert (verdict.state, seen(planted)) == ("undecided", [(8, "undecided")])


@pytest.mark.parametrize("options", [("scale.seeds.training=12",), pytest.param(TWO, marks=pytest.mark.slow)])
def test_other_looks_after_one_was_seen_change_nothing(planted, options):
    planted.effect = 0.0105
    (first,) = planted()  # eight seeds, one look
    planted.effect = 0.5
    planted.behaviour = lambda c, e: test_study.accuracy(c, e if c.seed >= 8 else 0.0105)
    (verdict,) = planted(*options)
    assert (first.state, verdict.state, verdict.first["n"]) == ("undecided", "undecided", 8)
    assert seen(planted) == [(8, "undecided")]


def test_a_rule_that_changed_since_a_look_is_refused_in_any_study(planted):
    planted()
    shutil.rmtree(planted.output / "studies")
    write(planted.conf, finding(tune=None, margin=0.001))
    with pytest.raises(InputError, match="has changed since its first verdict"):
        planted()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("scale.looks.training=[12,8]",), r"scale.looks.training=\[12, 8\]: looks must rise"),
        (("scale.looks.training=[8,8]",), "looks must rise"),
        (("scale.looks.training=[4,8]",), "the first look needs at least 8 seeds"),
        (("scale.looks.training=[]",), "looks must rise"),
        (("scale.looks.training=[8,12.5]",), r"scale.looks.training.1=12.5: .*integer"),
        (("scale.looks.training=[8,true]",), r"scale.looks.training.1=True: .*integer"),
        (("scale.looks.training=[8,twelve]",), r"scale.looks.training.1='twelve': .*integer"),
        (("scale.looks.training=8",), r"scale.looks.training=8: "),
        (("scale.looks.training=[12,18]",), "scale.seeds.training=8 lies below the first look, 12 seeds"),
    ],
)
def test_looks_that_can_not_be_are_refused(planted, options, words):
    with pytest.raises(InputError, match=words) as error:
        planted(*options)
    assert "\n" not in str(error.value)
    assert planted.done == []


@pytest.mark.parametrize("line", some(["{", '{"n": "8"}', "[]"]))
def test_looks_that_can_not_be_read_are_refused(planted, line):
    planted()
    file = LooksFile(planted.output, "planted", "quick").path
    file.write_text(file.read_text() + line + "\n")
    with pytest.raises(InputError, match="line 2 is damaged"):
        planted()


def test_findings_that_decide_nothing_take_the_first_look(planted):
    write(planted.conf, finding(tune=None, primary=False))
    (verdict,) = planted(*TWO)
    assert (verdict.state, verdict.looks, len(planted.done)) == ("estimate", [8], 2 * 8)


@pytest.mark.slow
def test_a_dry_study_says_its_upper_bound(planted, capsys):
    planted(*TWO, "dry=true")
    out = capsys.readouterr().out
    assert "24 runs" in out
    assert "upper bound: a primary is judged after 8, 12 seeds" in " ".join(out.split())


def test_the_expected_seeds_are_those_of_the_simulation():
    """Of docs/verdicts/simulation.md: a spread of half the margin, no effect."""
    assert expected_seeds((8, 12, 18, 24), 0.5) == pytest.approx(17.6, abs=0.3)
    assert expected_seeds((8, 12, 18, 24), 0.25) == pytest.approx(12.0, abs=0.3)


@pytest.mark.slow
def test_a_look_is_seen_in_every_study_of_the_output(planted):
    planted.effect = 0.0105
    (verdict,) = planted(*TWO)
    other = Ledger(planted.output / "studies" / "textbook-quick", "quick")
    found = read_finding(planted.conf / "finding" / "planted.yaml")
    other.check_rule(found)
    again = other.looked(found, replace(verdict, state="supported", reason=Reason.NONE))
    assert (again.state, again.reason) == ("undecided", Reason.KEPT)
    assert seen(planted) == [(8, "undecided"), (12, "undecided")]


@pytest.mark.slow
def test_undecided_at_the_cap_says_seeds_by_a_bound_on_the_spread(planted, capsys):
    """Not by the spread that was seen, by which eight seeds once said 6 where 14 was true."""
    planted.effect = 0.0105
    (verdict,) = planted(*TWO)
    (estimate,) = verdict.estimates
    assert (verdict.state, len(estimate.values)) == ("undecided", 12)
    by_bound = seeds_needed(estimate.values, 0.01, 0.05 / 6)
    assert verdict.needed == max(by_bound, 8)
    assert spread_bound(estimate.values) > 1.3 * estimate.sd
    noisy = replace(estimate, values=[3 * value for value in estimate.values])
    assert seeds_needed(noisy.values, 0.01, 0.05 / 6) > power.seeds_needed(0.01, 3 * estimate.sd, 0.05 / 6)
