"""A pack and what is already where it is imported: nothing is overwritten, unseen or half written."""

from __future__ import annotations

import errno
import json
import shutil
import threading

import pytest
import test_study_packs
from test_study_packs import TWO, altered, files, imported, in_looks, packed, stop_after

from normlab.config.schema import InputError
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.looks import LooksFile
from normlab.folder.run_folder import RunFolder
from normlab.folder.run_record import RunRecord
from normlab.folder.study_folder import StudyFolder
from normlab.runs.owner import take, this_process
from normlab.runs.store import look

world, planted, whole = test_study_packs.world, test_study_packs.planted, test_study_packs.whole  # fixtures


def refused(planted, cache, path, words):
    """It is, and changes nothing."""
    before = files(planted.output)
    with pytest.raises(InputError, match=words):
        imported(planted, cache, path)
    after = files(planted.output)
    assert {name: after[name] for name in after if not name.endswith(".lock")} == {
        name: before[name] for name in before if not name.endswith(".lock")
    }


def test_another_result_of_the_same_run_is_refused(planted, whole, cache):
    planted.effect = 0.5
    planted()
    refused(
        planted, cache, whole, r"run lstm-layer-.* \(planted, arm layer, seed \d\) has another result in .*out than"
    )


def test_another_row_of_the_same_seed_and_arm_is_refused(planted, whole, cache):
    imported(planted, cache, whole)
    shutil.rmtree(planted.output / "runs")
    study = StudyFolder.at(planted.output, "planted-quick")
    study.write_runs([row | {"id": "another"} for row in study.read_runs()])
    refused(planted, cache, whole, r"planted, arm \w+, seed 0 is another result in .*planted-quick than in")


@pytest.mark.parametrize("state", ["supported", "contradicted"])
def test_looks_that_contradict_those_that_were_seen_are_refused(planted, whole, cache, state):
    file = LooksFile(planted.output, "planted", "quick")
    file.add({**LooksFile(planted.output.parent / "moved away", "planted", "quick").read()[0], "state": state})
    refused(planted, cache, whole, f"look 1 of planted-quick was {state} at 8 seeds here, and in the pack undecided")


def test_looks_here_that_go_on_from_those_of_the_pack_stay(planted, cache, tmp_path):
    planted()
    earlier = packed(planted, tmp_path)
    planted.effect = 0.0105
    file = LooksFile(planted.output, "planted", "quick")
    file.add({**file.read()[0], "n": 12})
    before = files(planted.output)
    done = imported(planted, cache, earlier)
    assert not done.changes
    assert files(planted.output) == before


@pytest.mark.slow
def test_a_study_that_comes_back_brings_what_was_added_elsewhere(planted, cache, tmp_path):
    """Also in place of a run that was unfinished when it left."""
    stop_after(planted, 5)
    with pytest.raises(KeyboardInterrupt):
        planted(*TWO)
    out = packed(planted, tmp_path, "out.zip")
    planted.output.rename(tmp_path / "first machine")
    imported(planted, cache, out)
    planted.behaviour = test_study_packs.test_study.accuracy
    (verdict,) = planted(*TWO)
    back = packed(planted, tmp_path, "back.zip")
    planted.output.rename(tmp_path / "second machine")
    (tmp_path / "first machine").rename(planted.output)
    done = imported(planted, cache, back)
    assert (len(done.new), done.known, done.tables, len(done.aside)) == (19, 5, ["planted-quick"], 1)
    assert planted(*TWO) == [verdict]
    assert planted.done == []


def test_two_halves_meet(planted, cache, tmp_path):
    """Each machine has done runs that the other lacks; the study's command brings the tables together."""
    planted()
    path = packed(planted, tmp_path)
    study = StudyFolder.at(planted.output, "planted-quick")
    rows = study.read_runs()
    gone = rows[3]["id"]
    shutil.rmtree(planted.output / "runs" / gone)
    study.write_runs([row for row in rows if row["id"] != gone] + [{**rows[3], "finding": "other", "id": "else"}])
    done = imported(planted, cache, path)
    assert (done.new, done.known, done.tables, done.kept) == ([gone], 15, [], ["planted-quick"])
    assert "other" in {row["finding"] for row in study.read_runs()}
    planted()
    assert planted.done == []


def test_a_run_that_somebody_works_on_is_left_alone(planted, whole, cache, monkeypatch):
    imported(planted, cache, whole)
    run = RunFolder(next(iter((planted.output / "runs").iterdir())))
    write_json(run.folder / "status.json", {**run.read_status(), "state": "running"})
    hold = take(run.folder, this_process())
    monkeypatch.setattr("normlab.runs.owner._here", lambda: (0, "", "", ""))
    before = files(planted.output)
    with pytest.raises(InputError, match=r"process \d+ on .* is working on run .* wait for it"):
        imported(planted, cache, whole)
    assert files(planted.output) == before
    hold.let_go()


def test_a_damaged_result_is_set_aside(planted, whole, cache):
    imported(planted, cache, whole)
    run = next(iter((planted.output / "runs").iterdir()))
    (run / "summary.json").write_text("{}")
    done = imported(planted, cache, whole)
    assert done.aside == [run.name]
    assert (run.with_name(f"{run.name}.attempt-1") / "summary.json").read_text() == "{}"
    assert look(run, read_json(run / "status.json")["code"]).state == "finished"


def test_a_disk_that_is_full_leaves_what_was_there(planted, whole, cache, monkeypatch):
    planted("scale.seeds.training=2")
    write, count = RunRecord.write, []

    def full(record, folder):
        count.append(folder)
        if len(count) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(record, folder)

    shutil.rmtree(planted.output / "studies")
    shutil.rmtree(planted.output / "looks")
    shutil.rmtree(planted.output / "runs")
    (planted.output / "mine").write_text("x")
    monkeypatch.setattr(RunRecord, "write", full)
    refused(
        planted, cache, whole, "could not be written: No space left on device; repeat the import once there is room"
    )
    monkeypatch.undo()
    assert len(imported(planted, cache, whole).new) == 16


@pytest.mark.slow
def test_two_imports_at_once_both_end_well(planted, whole, cache):
    errors = []

    def one():
        try:
            imported(planted, cache, whole)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    planted()
    assert planted.done == []


@pytest.mark.slow
def test_a_study_is_packed_while_it_runs(planted, cache, tmp_path):
    """What is packed is what a study that was killed at that moment would have left."""
    packs = []

    def behaviour(config, effect):
        if len(planted.done) in (3, 17, 20):
            packs.append(packed(planted, tmp_path, f"{len(planted.done)}.zip"))
        return test_study_packs.test_study.accuracy(config, effect)

    planted.behaviour = behaviour
    (verdict,) = planted(*TWO)
    planted.output.rename(tmp_path / "first machine")
    counts = []
    for path in packs:
        counts.append(len(imported(planted, cache, path).new))
        planted.behaviour = test_study_packs.test_study.accuracy
        assert planted(*TWO) == [verdict]
        shutil.rmtree(planted.output)
    assert counts == [2, 16, 19]


def test_damaged_runs_are_left_out_and_named(planted, tmp_path, capsys):
    planted()
    run = next(iter((planted.output / "runs").iterdir()))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps({**summary, "test/accuracy": 1.0}))
    from normlab.commands.console import call

    call(["study", "export", str(planted.output / "studies" / "planted-quick"), "-o", str(tmp_path / "a.zip")])
    out = capsys.readouterr().out
    assert f"left out, as it is damaged: {run.name}: its summary.json is not what the run wrote" in out
    assert "15 finished runs of 16" in out


def test_a_look_that_the_pack_adds_is_added(planted, cache, tmp_path, whole):
    """The pack has one more look than this output."""
    imported(planted, cache, whole)
    line = LooksFile(planted.output, "planted", "quick").content()
    later = altered(whole, in_looks(lambda text: text + text.replace(b'"n": 8', b'"n": 12')))
    done = imported(planted, cache, later)
    assert done.looks == {"planted-quick": [line.replace(b'"n": 8', b'"n": 12').strip()]}
    assert [seen["n"] for seen in LooksFile(planted.output, "planted", "quick").read()] == [8, 12]
