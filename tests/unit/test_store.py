"""Run folders: claims, records, and what state a folder is in."""

import errno
import json
import signal
import socket
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from run_folders import config_of, save_sealed, write_owner

from normlab.config.schema import InputError
from normlab.folder import hold
from normlab.folder.jsonfile import read_cache, read_json, write_cache, write_json
from normlab.folder.resume_points import ResumePoint, add_point, list_points, newest_intact
from normlab.folder.run_folder import RunFolder
from normlab.runs import store
from normlab.runs.clean import find_leftovers
from normlab.runs.owner import Owner, is_alive, read_owner, this_process
from normlab.runs.provenance import provenance
from normlab.runs.records import read_record
from normlab.runs.run import _stop
from normlab.runs.store import BusyError, accept, claim, folder_of, look, tidy
from normlab.stopping.request import Stopped


def begin(tmp_path, code="code", **more):
    run, _ = claim(tmp_path, "a", code, {"seed": 0}, **more)
    return run


def state(tmp_path, code="code"):
    return look(folder_of(tmp_path, "a"), code).state


def saved(run, step=3, has_best=False) -> ResumePoint:
    """A resume point of the run, with two lines logged before."""
    folder = run.place.folder
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    save_sealed(folder / "checkpoints" / f"resume-{step}.ckpt", 1000)
    add_point(folder, ResumePoint.after(step, 2, has_best=has_best))
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
    with pytest.raises(InputError, match="finished in the meantime"):
        begin(tmp_path)


def test_a_result_of_other_code_is_stale_until_it_is_accepted(tmp_path):
    begin(tmp_path, "old").finish({"n": 1})
    assert state(tmp_path, "new") == "stale"
    folder = folder_of(tmp_path, "a")
    accept(folder, read_json(folder / "status.json"), "new")
    assert state(tmp_path, "new") == "finished"
    assert state(tmp_path, "newer") == "stale"
    run, note = claim(tmp_path, "a", "newer", {})
    assert "its code has changed" in note
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
    write_owner(run.place.folder, replace(this_process(), host="elsewhere", boot="another", slurm=None))
    with pytest.raises(InputError, match=r"elsewhere is working on .*; if it no longer exists, remove .*owner"):
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
        ("summary.json", '{"n": 1', "differs from what the run wrote"),
        ("summary.json", '{"n": 2}\n', "differs from what the run wrote"),
        ("summary.json", None, "is missing"),
        ("status.json", '{"state": "fini', "can't be read"),
        ("status.json", '{"sta4e": "finished"}', "has no state"),
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
        status = run.place.folder / "status.json"
        kept = status.read_text()
        for damaged in ("{", '{"state": "runninh"}'):
            status.write_text(damaged)
            assert state(tmp_path) == "running"  # its folder is not taken away from under it
        status.write_text(kept)
        with pytest.raises(InputError, match=f"process {other.pid} on {socket.gethostname()} is working on"):
            begin(tmp_path)
        other.communicate(b"\n")
    assert begin(tmp_path).place.attempt == 2  # its owner is dead


def test_a_number_used_again_is_another_process(tmp_path):
    owner = this_process()
    assert not is_alive(owner, tmp_path)  # this process is no obstacle to itself
    parent = replace(owner, pid=1, started="0")
    assert not is_alive(parent, tmp_path)
    assert not is_alive(replace(owner, pid=1, boot="another start of the machine"), tmp_path)


def test_a_process_on_another_machine_is_taken_to_be_alive(monkeypatch, tmp_path):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    elsewhere = Owner("elsewhere", 1, "1", "boot", None, "launch")
    assert is_alive(elsewhere, tmp_path)
    in_slurm = replace(elsewhere, slurm="77")
    monkeypatch.setenv("SLURM_JOB_ID", "77")  # requeued: it is this job's own earlier start
    assert not is_alive(in_slurm, tmp_path)


def test_withdrawn_runs_leave_nothing(tmp_path):
    begin(tmp_path).withdraw()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_damaged_cache_counts_as_empty(tmp_path):
    path = tmp_path / "cache.json"
    write_cache(path, {"lr": 0.1})
    assert read_cache(path) == {"lr": 0.1}
    path.write_text(path.read_text().replace("0.1", "0.3"))  # still JSON
    assert read_cache(path) == {}


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
    assert state(tmp_path) == "running"  # somebody holds it
    run.hold.let_go()
    assert begin(tmp_path).place.attempt == 2


HOLDER = """
import sys
from pathlib import Path
from normlab.runs.store import claim
run, _ = claim(Path(sys.argv[1]), "a", "code", {"seed": 0})
print("taken", flush=True)
input()
"""


@pytest.fixture(params=["here", "another container"])
def holder(request, tmp_path):
    """Another process that has taken the run, in the same or in another set of process numbers."""
    apart = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if request.param != "here" else []
    if apart and subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no set of process numbers can be made here")
    command = [*apart, sys.executable, "-c", HOLDER, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_a_run_is_taken_once_in_all_containers_of_a_machine(tmp_path, holder):
    folder = folder_of(tmp_path, "a")
    assert read_owner(folder).locked
    with pytest.raises(BusyError, match="is working on"):
        begin(tmp_path)
    owner = json.loads((folder / "owner").read_text())
    for changed in ({"host": "the same container by another name"}, {"boot": "unknown"}):
        (folder / "owner").write_text(json.dumps(owner | changed))  # into the same file, which is held
        assert state(tmp_path) == "running"
    (folder / "owner").write_text(json.dumps(owner))
    holder.kill()
    holder.stdout.read()  # until the process in the container has ended too
    assert begin(tmp_path).place.attempt == 2  # the system has let go of it


def test_without_locks_only_a_process_that_can_be_seen_is_known_to_be_dead(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(hold.fcntl, "flock", fail)
    monkeypatch.setattr(store, "all_claims", lambda output: nullcontext())
    (tmp_path / "runs").mkdir()
    run, note = claim(tmp_path, "a", "code", {})
    assert "without locks" in note
    assert not read_owner(run.place.folder).locked
    dead = replace(this_process(), pid=2**22 + 1)
    write_owner(run.place.folder, dead)
    assert state(tmp_path) == "partial"
    write_owner(run.place.folder, replace(dead, space="another container"))
    with pytest.raises(BusyError, match="if it no longer exists, remove"):
        begin(tmp_path)


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
    assert "all of its saves are damaged; it was set aside as a.damaged-1" in note
    assert set(runs(tmp_path)) == {"a", "a.damaged-1"}


def test_a_logged_value_that_changed_counts_as_damage(tmp_path):
    run = begin(tmp_path)
    point = saved(run)
    record = run.place.folder / "metrics.jsonl"
    record.write_text(record.read_text() + '{"step": 3}\n')
    assert newest_intact(run.place.folder) == point
    record.write_text(record.read_text().replace("1", "3"))
    assert newest_intact(run.place.folder) is None


def test_a_resume_point_without_the_best_checkpoint_it_needs_is_not_used(tmp_path):
    run = begin(tmp_path)
    older = saved(run, 3)
    save_sealed(run.place.best)
    newer = saved(run, 6, has_best=True)
    assert newest_intact(run.place.folder) == newer
    kept = newer.best(run.place)
    content = kept.read_bytes()
    kept.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    run.fail("stopped", "why")
    again, note = claim(tmp_path, "a", "code", {})
    assert again.place.resume == older
    assert (
        note == "resumed after step 3; the later save at step 6 can't be used: resume-6.best.ckpt is damaged or missing"
    )


@pytest.mark.parametrize("file", ["/etc/passwd", "../../../b/checkpoints/resume-3.ckpt"])
def test_a_resume_point_lies_in_the_run_whatever_its_record_says(tmp_path, file):
    run = begin(tmp_path)
    point = replace(saved(run), file=file)
    assert point.checkpoint(run.place).parent == run.place.checkpoints


@pytest.mark.parametrize("links", [True, False])
def test_a_resumed_run_has_the_best_checkpoint_of_its_resume_point(tmp_path, links, monkeypatch):
    if not links:  # as on some network drives
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError))
    run = begin(tmp_path)
    save_sealed(run.place.best, 3)
    saved(run, 3, has_best=True)
    expected = run.place.best.read_bytes()
    save_sealed(run.place.best, 5)  # a later validation was better
    run.fail("stopped", "why")
    again = begin(tmp_path)
    assert again.place.best.read_bytes() == expected
    assert not list(again.place.folder.rglob("*.part"))
    again.finish({"n": 1})
    assert [path.name for path in again.place.checkpoints.iterdir()] == ["best.ckpt"]


DAMAGED = [
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"state": NaN, "attempt": "x", "accepted": 3, "code": {}, "points": 7, "pid": "1", "wandb": []}',
    '{"state": "finished", "state": "running"}',
    '{"state": "stopped", "attempt": -1, "points": [{"file": 3, "step": "a", "rows": NaN}], "pid": 1e400, "step": "a"}',
    '{"state": ["finished"], "points": [[]], "pid": -1, "host": 5, "steps": 0, "packages": 3, "before": 3}',
    "null",
    "\ufeff{}",
    "\x00",
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
@pytest.mark.parametrize("file", ["status", "summary", "resume", "provenance", "links", "progress", "config", "owner"])
def test_damaged_json_is_never_a_traceback(tmp_path, file, content):
    run = begin(tmp_path)
    saved(run)
    run.fail("stopped", "why")
    folder = run.place.folder
    (folder / (file if file == "owner" else f"{file}.json")).write_text(content)
    read_record(folder)
    list(find_leftovers(tmp_path))
    assert RunFolder(folder).read_address() == ""
    assert RunFolder(folder).read_progress() == {}
    again, _ = claim(tmp_path, "a", "code", {"seed": 0})
    provenance(again.place, config_of("model=lstm"), "data")
    again.finish({"n": 1})
    assert look(folder, "code").summary == {"n": 1}


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_linked_run_folder_is_used_and_only_its_link_removed(tmp_path, state):
    run = begin(tmp_path, "old")
    run.finish({"n": 1}) if state == "finished" else run.fail("failed", "why")
    other_disk = run.place.folder.rename(tmp_path / "other disk")
    run.place.folder.symlink_to(other_disk)
    assert state_of_link(tmp_path) == ("stale" if state == "finished" else "foreign")
    begin(tmp_path).finish({"n": 2})
    assert other_disk.exists()
    assert state_of_link(tmp_path) == "finished"


def state_of_link(tmp_path) -> str:
    return look(folder_of(tmp_path, "a"), "code").state


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("gone"), lambda path: path.write_text("")])
def test_what_is_no_folder_is_named(tmp_path, make):
    (tmp_path / "runs").mkdir()
    make(tmp_path / "runs" / "a")
    with pytest.raises(InputError, match="not a folder"):
        begin(tmp_path)


def test_what_a_stopped_run_promises(tmp_path):
    """Where the same command would resume; or that it would start again because nothing was saved."""
    run = begin(tmp_path)
    stopped = Stopped(signal.SIGINT)
    _stop(run, stopped)
    assert stopped.__notes__ == ["The same command starts again"]
    assert read_json(run.place.folder / "status.json")["cause"] == "stopped by Ctrl-C before its first save"
