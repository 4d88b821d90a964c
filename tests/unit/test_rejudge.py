"""What a study's folder says follows from its table and the findings' files."""

import math
from dataclasses import replace

import pytest
import test_study
from made_up_studies import reported, tuned
from rejudged_studies import differences, rejudge

from finding_files import finding, write
from normlab.config.schema import InputError
from normlab.config.shipped import REFERENCE
from normlab.findings.judge import judge
from normlab.findings.read import read_finding
from normlab.findings.stored import stored
from normlab.findings.verdict import Reason
from normlab.findings.wording import reason_words
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.pack import sign_folder
from normlab.folder.study_table import write_rows
from normlab.results.rejudge import read_evidence

world = test_study.world  # the fixture


@pytest.fixture
def conf(tmp_path):
    write(tmp_path / "conf", finding())
    return tmp_path / "conf"


@pytest.fixture
def folder(tmp_path, conf):
    """A study of eight seeds, with its own tuning."""
    folder = tmp_path / "study"
    folder.mkdir()
    write_rows(folder / "runs.csv", [*tuned(), *reported(0.05, n=8)])
    verdict = judge(read_finding(conf / "finding" / "planted.yaml"), reported(0.05, n=8), 8, "quick", {})
    write_json(folder / "verdicts.json", {"verdicts": [stored(verdict)]})
    return folder


@pytest.mark.parametrize("recorded", [file.parent for file in sorted(REFERENCE.glob("*/verdicts.json"))], ids=str)
def test_the_committed_verdicts_follow_from_the_committed_tables(recorded):
    assert differences(recorded, rejudge(recorded)) == []


@pytest.mark.parametrize("edge", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_study_is_judged_again_as_it_was(world, edge):
    if edge:
        world.behaviour = lambda c, e: {"validation/accuracy": c.optim.lr, "test/accuracy": 0.8 + c.seed * 1e-3}
    world()
    folder = world.output / "studies" / "planted-quick"
    (verdict,) = rejudge(folder, world.conf)
    assert differences(folder, [verdict]) == []
    assert (verdict.state, verdict.scale) == ("undecided" if edge else "supported", "quick")
    assert (verdict.reason is Reason.EDGE) is edge


def test_an_edge_is_seen_in_the_committed_tuning(conf, folder, tmp_path):
    write_rows(folder / "runs.csv", reported(0.05, n=8))
    reference = tmp_path / "reference"
    with pytest.raises(InputError, match="says how layer of planted was tuned"):
        rejudge(folder, conf, reference)
    reference.mkdir()
    write_rows(reference / "tuning.csv", tuned())
    sign_folder(reference)
    assert differences(folder, rejudge(folder, conf, reference)) == []
    write_rows(reference / "tuning.csv", tuned((1e-3, 3e-3, 1e-2)))
    with pytest.raises(InputError, match=r"tuning.csv has been altered since it was packed"):
        rejudge(folder, conf, reference)
    sign_folder(reference)
    (verdict,) = rejudge(folder, conf, reference)
    assert verdict.reason is Reason.EDGE
    assert reason_words(verdict) == "edge: the best rate of layer is at an end of the grid, 0.01"


def test_what_differs_is_named(conf, folder):
    (verdict,) = rejudge(folder, conf)
    values = read_json(folder / "verdicts.json")
    first = values["verdicts"][0]
    first["state"] = "contradicted"
    first["estimates"][0]["interval"]["low"] = 7.0
    write_json(folder / "verdicts.json", values)
    found = differences(folder, [verdict])
    assert found[0] == "planted: state was contradicted and is supported"
    assert found[1].startswith("planted: estimates.0.interval.low was 7.0 and is 0.0")
    assert len(found) == 2


@pytest.mark.parametrize(("factor", "same"), [(1 + 1e-9, True), (1 + 1e-4, False), (math.nan, False)])
def test_rounding_is_no_difference(conf, folder, factor, same):
    (verdict,) = rejudge(folder, conf)
    estimate = replace(verdict.estimates[0], mean=verdict.estimates[0].mean * factor)
    assert (differences(folder, [replace(verdict, estimates=[estimate])]) == []) is same


def test_a_finding_of_one_side_alone_is_named(conf, folder):
    assert differences(folder, []) == ["planted: has no runs in runs.csv"]
    (verdict,) = rejudge(folder, conf)
    write_json(folder / "verdicts.json", {"verdicts": []})
    assert differences(folder, [verdict]) == ["planted: has no verdict in verdicts.json"]


def test_a_file_without_a_cell_of_the_table_is_refused(conf, folder):
    write(conf, finding(arms={"layer": ["norm=layer"], "rms": ["norm=rms"]}, contrasts={"main": "layer - rms"}))
    with pytest.raises(InputError, match="planted has no cell batch; its file has changed since"):
        read_evidence(folder, conf)
