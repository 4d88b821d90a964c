"""What a study's folder says follows from its table and the findings' files."""

import json
import math
from dataclasses import replace

import pytest
import test_study

from finding_files import finding, write
from normlab.jsonfile import read_json, write_json
from normlab.schema import InputError
from normlab.study.engine import REFERENCE
from normlab.study.rejudge import differences, read_evidence, rejudge

world = test_study.world  # the fixture


@pytest.fixture
def folder(world):
    world()
    return world.output / "studies" / "planted-quick"


@pytest.mark.parametrize("recorded", [file.parent for file in sorted(REFERENCE.glob("*/verdicts.json"))], ids=str)
def test_the_committed_verdicts_follow_from_the_committed_tables(recorded):
    assert differences(recorded, rejudge(recorded)) == []


def test_a_study_is_judged_again_as_it_was(world, folder):
    (verdict,) = rejudge(folder, world.conf)
    assert differences(folder, [verdict]) == []
    assert (verdict.state, verdict.scale) == ("supported", "quick")
    assert verdict.holm_p is not None


def test_an_edge_is_seen_in_the_studys_own_tuning(world):
    world.behaviour = lambda c, e: {"validation/accuracy": c.optim.lr, "test/accuracy": 0.8 + c.seed * 1e-3}
    world()
    folder = world.output / "studies" / "planted-quick"
    (verdict,) = rejudge(folder, world.conf)
    assert verdict.reason.startswith("edge")
    assert differences(folder, [verdict]) == []


def test_an_edge_is_seen_in_the_committed_tuning(world, folder, tmp_path):
    lines = (folder / "runs.csv").read_text().splitlines()
    tuned = [line for line in lines if ",tune," in line]
    (folder / "runs.csv").write_text("\n".join(line for line in lines if line not in tuned))
    reference = tmp_path / "committed"
    with pytest.raises(InputError, match="says how layer of planted was tuned"):
        rejudge(folder, world.conf, reference)
    reference.mkdir()
    (reference / "tuning.csv").write_text("\n".join([lines[0], *tuned]))
    assert differences(folder, rejudge(folder, world.conf, reference)) == []
    low = [line for line in tuned if ",0.001," in line or ",0.003," in line or ",0.01," in line]
    (reference / "tuning.csv").write_text("\n".join([lines[0], *low]))
    (verdict,) = rejudge(folder, world.conf, reference)
    assert verdict.reason.startswith("edge: layer is best at an end of the rates tried, 0.01")


def test_what_differs_is_named(world, folder):
    (verdict,) = rejudge(folder, world.conf)
    values = read_json(folder / "verdicts.json")
    first = values["verdicts"][0]
    first["state"] = "contradicted"
    first["estimates"][0]["interval"]["low"] += 1e-3
    low = first["estimates"][0]["interval"]["low"]
    write_json(folder / "verdicts.json", values)
    found = differences(folder, [verdict])
    assert found[0] == "planted: state was contradicted and is supported"
    assert found[1].startswith(f"planted: estimates.0.interval.low was {low} and is ")
    assert len(found) == 2


@pytest.mark.parametrize(("mean", "same"), [(1 + 1e-9, True), (1 + 1e-4, False), (math.nan, False)])
def test_rounding_is_no_difference(world, folder, mean, same):
    (verdict,) = rejudge(folder, world.conf)
    estimate = replace(verdict.estimates[0], mean=verdict.estimates[0].mean * mean)
    assert (differences(folder, [replace(verdict, estimates=[estimate])]) == []) is same


def test_a_finding_of_one_side_alone_is_named(world, folder):
    assert differences(folder, []) == ["planted: has no runs in runs.csv"]
    (verdict,) = rejudge(folder, world.conf)
    write_json(folder / "verdicts.json", json.loads('{"verdicts": []}'))
    assert differences(folder, [verdict]) == ["planted: has no verdict in verdicts.json"]


def test_a_file_without_a_cell_of_the_table_is_refused(world, folder):
    write(world.conf, finding(arms={"layer": ["norm=layer"], "rms": ["norm=rms"]}, contrasts={"main": "layer - rms"}))
    with pytest.raises(InputError, match="planted has no cell batch; its file has changed since"):
        read_evidence(folder, world.conf)
