"""Run folders: claims, records, and what state a folder is in."""

import json
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from normlab.config.schema import InputError
from normlab.folder.jsonfile import read_json, write_json
from normlab.folder.resume_points import ResumePoint, add_point, is_intact, list_points, newest_intact
from normlab.runs.owner import Owner, is_alive, read_owner, this_process, write_owner
from normlab.runs.run import _stop
from normlab.runs.store import accept, claim, folder_of, look, tidy
from normlab.stopping.request import Stopped


def begin(tmp_path, code="code", **more):
    run, _ = claim(tmp_path, "a", code, {"seed": 0}, **more)
    return run


def state(tmp_path, code="code"):
    return look(folder_of(tmp_path, "a"), code).state


def saved(run, step=3) -> ResumePoint:
    """A resume point of the run, with two lines logged before."""
    folder = run.place.folder
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    (folder / "checkpoints").mkdir(exist_ok=True)
    torch.save({"w": torch.zeros(1000)}, folder / "checkpoints" / f"resume-{step}.ckpt")
    add_point(folder, ResumePoint(f"resume-{step}.ckpt", step, 2))
    return list_points(folder)[0]


def runs(tmp_path) -> dict[str, dict]:
    return {path.name: read_json(path / "summary.json") for path in (tmp_path / "runs").iterdir()}


def test_a_run_from_claim_to_result(tmp_path):
    assert state(tmp_path) == "missing"
    run = begin(tmp_path)
    assert read_json(run.place.folder / "status.json")["state"] == "running"
    assert read_json(run.place.folder / "config.json") == {"seed": 0}
    saved(run)
    run.finish({"validation/loss": 1.0})
    found = look(run.place.folder, "code")
    assert (found.state, found.summary) == ("finished", {"validation/loss": 1.0})
    assert not (run.place.folder / "owner").exists()
    assert list_points(run.place.folder) == []
    assert not list((run.place.folder / "checkpoints").iterdir())


def test_a_repeat_keeps_the_earlier_attempt(tmp_path):
    begin(tmp_path).finish({"n": 1})
    again = begin(tmp_path, repeat=True)
    assert again.place.attempt == 2
    again.finish({"n": 2})
    begin(tmp_path, repeat=True).fail("failed", "why")
    assert runs(tmp_path) == {"a": {}, "a.attempt-1": {"n": 1}, "a.attempt-2": {"n": 2}}
    assert read_json(folder_of(tmp_path, "a") / "status.json")["cause"] == "why"


def test_a_finished_run_is_not_taken_without_asking_for_a_repeat(tmp_path):
    begin(tmp_path).finish({"n": 1})
    with pytest.raises(InputError, match="finished meanwhile"):
        begin(tmp_path)


def test_a_result_of_other_code_is_stale_until_it_is_accepted(tmp_path):
    begin(tmp_path, "old").finish({"n": 1})
    assert state(tmp_path, "new") == "stale"
    folder = folder_of(tmp_path, "a")
    accept(folder, read_json(folder / "status.json"), "new")
    assert state(tmp_path, "new") == "finished"
    assert state(tmp_path, "newer") == "stale"
    run, note = claim(tmp_path, "a", "newer", {})
    assert "other code" in note
    assert runs(tmp_path)["a.attempt-1"] == {"n": 1}
    assert run.place.attempt == 2


def test_an_interrupted_run_goes_on_from_where_it_was_saved(tmp_path):
    run = begin(tmp_path)
    point = saved(run)
    run.fail("stopped", "why")
    assert state(tmp_path) == "partial"
    again, note = claim(tmp_path, "a", "code", {})
    assert (again.place.resume, again.place.attempt) == (point, 1)
    assert note == "resumed after step 3"
    assert read_owner(again.place.folder).resume == "resume-3.ckpt"


def test_an_interrupted_run_of_other_code_is_set_aside(tmp_path):
    run = begin(tmp_path, "old")
    saved(run)
    run.fail("stopped", "why")
    assert state(tmp_path, "new") == "foreign"
    again = begin(tmp_path, "new")
    assert (again.place.resume, again.place.attempt) == (None, 2)
    assert set(runs(tmp_path)) == {"a", "a.attempt-1"}


def test_an_interrupted_run_of_another_torch_is_set_aside(tmp_path):
    run = begin(tmp_path)
    saved(run)
    run.fail("stopped", "why")
    status = run.place.folder / "status.json"
    write_json(status, {**read_json(status), "torch": "1.0"})
    assert state(tmp_path) == "foreign"
    assert begin(tmp_path).place.resume is None
    assert set(runs(tmp_path)) == {"a", "a.attempt-1"}


def test_an_owner_on_another_machine_can_be_removed_by_hand(tmp_path):
    run = begin(tmp_path)
    write_owner(run.place.folder, replace(this_process(), host="elsewhere", slurm=None))
    with pytest.raises(InputError, match=r"elsewhere is working on .*; if it is gone, remove .*owner"):
        begin(tmp_path)


def test_an_interrupted_run_that_saved_nothing_begins_anew(tmp_path):
    run = begin(tmp_path)
    (run.place.folder / "metrics.jsonl").write_text("{}\n")
    run.fail("failed", "why")
    again = begin(tmp_path)
    assert (again.place.resume, again.place.attempt) == (None, 2)
    assert set(runs(tmp_path)) == {"a"}
    assert not (again.place.folder / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("summary.json", '{"n": 1', "not what the run wrote"),
        ("summary.json", '{"n": 2}\n', "not what the run wrote"),
        ("summary.json", None, "is missing"),
        ("status.json", '{"state": "fini', "can't be read"),
        ("status.json", '{"sta4e": "finished"}', "tells no state"),
        ("status.json", None, "is missing"),
    ],
)
def test_a_damaged_run_is_named_set_aside_and_redone(tmp_path, file, content, why):
    begin(tmp_path).finish({"n": 1})
    path = folder_of(tmp_path, "a") / file
    path.unlink() if content is None else path.write_text(content)
    assert state(tmp_path) == "damaged"
    run, note = claim(tmp_path, "a", "code", {})
    assert str(folder_of(tmp_path, "a")) in note
    assert why in note
    assert "a.damaged-1" in note
    run.finish({"n": 3})
    assert set(runs(tmp_path)) == {"a", "a.damaged-1"}


def test_resume_points_are_checked_before_they_are_used(tmp_path):
    run = begin(tmp_path)
    older, newer = saved(run, 3), saved(run, 6)
    folder = run.place.folder
    assert newest_intact(folder) == newer
    checkpoint = folder / "checkpoints" / newer.file
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    assert not is_intact(checkpoint)
    assert newest_intact(folder) == older
    (folder / "metrics.jsonl").write_text('{"step": 1}\n')  # a line is lost
    assert newest_intact(folder) is None
    (folder / "resume.json").write_text('{"points": [{"fi')
    assert newest_intact(folder) is None


def test_only_the_last_two_resume_points_are_kept(tmp_path):
    run = begin(tmp_path)
    for step in (1, 2, 3):
        saved(run, step)
    assert [point.step for point in list_points(run.place.folder)] == [3, 2]
    assert {path.name for path in (run.place.folder / "checkpoints").iterdir()} == {"resume-3.ckpt", "resume-2.ckpt"}


def test_a_run_of_a_living_process_is_not_taken(tmp_path):
    run = begin(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        stat = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()
        write_owner(run.place.folder, replace(this_process(), pid=other.pid, started=stat[19]))
        assert state(tmp_path) == "running"
        with pytest.raises(InputError, match=f"process {other.pid} on {socket.gethostname()} is working on"):
            begin(tmp_path)
        other.communicate(b"\n")
    assert begin(tmp_path).place.attempt == 2  # its owner is dead


def test_a_number_used_again_is_another_process():
    owner = this_process()
    assert not is_alive(owner)  # this process is no obstacle to itself
    parent = replace(owner, pid=1, started="0")
    assert not is_alive(parent)
    assert not is_alive(replace(owner, pid=1, boot="another start of the machine"))


def test_a_process_on_another_machine_is_taken_to_be_alive(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    elsewhere = Owner("elsewhere", 1, "1", "boot", None, "launch")
    assert is_alive(elsewhere)
    in_slurm = replace(elsewhere, slurm="77")
    monkeypatch.setenv("SLURM_JOB_ID", "77")  # requeued: it is this job's own earlier start
    assert not is_alive(in_slurm)


def test_withdrawn_runs_leave_nothing(tmp_path):
    begin(tmp_path).withdraw()
    assert list((tmp_path / "runs").iterdir()) == []


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "values.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["values.json"]
    path.write_text('{"a": ')
    assert read_json(path) == {}


def test_a_damaged_owner_file_blocks_nobody(tmp_path):
    run = begin(tmp_path)
    (run.place.folder / "owner").write_text("")
    assert begin(tmp_path).place.attempt == 2


def test_a_withdrawn_repeat_leaves_the_finished_run_as_it_was(tmp_path):
    begin(tmp_path).finish({"n": 1})
    begin(tmp_path, repeat=True).withdraw()
    assert look(folder_of(tmp_path, "a"), "code").summary == {"n": 1}
    assert set(runs(tmp_path)) == {"a"}


def test_what_a_process_that_died_on_finishing_left_is_taken_away(tmp_path):
    run = begin(tmp_path)
    saved(run)
    run.finish({"n": 1})
    saved(run)
    folder = run.place.folder
    write_owner(folder, replace(this_process(), pid=2**22 + 1))
    tidy(folder)
    assert {path.name for path in folder.iterdir()} >= {"status.json", "summary.json", "metrics.jsonl"}
    assert not [path for path in folder.rglob("*") if path.name.startswith(("resume", "owner"))]


def test_a_run_that_is_no_longer_finished_is_not_tidied(tmp_path):
    run = begin(tmp_path)
    point = saved(run)
    write_owner(run.place.folder, replace(this_process(), pid=2**22 + 1))
    tidy(run.place.folder)
    assert newest_intact(run.place.folder) == point


def test_what_a_killed_process_was_writing_is_removed_when_its_run_goes_on(tmp_path):
    run = begin(tmp_path)
    saved(run)
    parts = [run.place.folder / name for name in (".status.json.7.part", "checkpoints/.resume-4.ckpt.part")]
    for part in parts:
        part.write_text("{")
    run.fail("stopped", "why")
    begin(tmp_path)
    assert not any(part.exists() for part in parts)


@pytest.mark.parametrize("file", ["resume.json", "metrics.jsonl", "checkpoints/resume-3.ckpt"])
def test_an_interrupted_run_of_which_nothing_is_whole_is_set_aside(tmp_path, file):
    run = begin(tmp_path)
    saved(run)
    run.fail("stopped", "why")
    path = run.place.folder / file
    path.write_bytes(path.read_bytes()[:-5])
    again, note = claim(tmp_path, "a", "code", {})
    assert again.place.resume is None
    assert "nothing that it saved is whole; set aside as a.damaged-1" in note
    assert set(runs(tmp_path)) == {"a", "a.damaged-1"}


def test_a_logged_value_that_changed_counts_as_damage(tmp_path):
    run = begin(tmp_path)
    point = saved(run)
    record = run.place.folder / "metrics.jsonl"
    record.write_text(record.read_text() + '{"step": 3}\n')
    assert newest_intact(run.place.folder) == point
    record.write_text(record.read_text().replace("1", "3"))
    assert newest_intact(run.place.folder) is None


def test_what_a_stopped_run_promises(tmp_path):
    """Where the same command would resume; that it would begin anew where nothing was saved."""
    run = begin(tmp_path)
    stopped = Stopped(signal.SIGINT)
    _stop(run, stopped)
    assert stopped.__notes__ == ["The same command starts anew"]
    assert read_json(run.place.folder / "status.json")["cause"] == "stopped by Ctrl-C before anything was saved"
