"""Run folders: claims, records, identity."""

import json
import subprocess
import sys

import pytest

from normlab.runs.store import claim, finished, folder_of, read_json, write_json
from normlab.schema import InputError


def test_a_run_from_claim_to_result(tmp_path):
    run = claim(tmp_path, "a", "code", {"seed": 0})
    assert read_json(run.place.folder / "status.json")["state"] == "running"
    assert finished(tmp_path, "a", "code") is None
    run.finish({"validation/loss": 1.0})
    assert finished(tmp_path, "a", "code") == {"validation/loss": 1.0}
    assert finished(tmp_path, "a", "other code") is None
    assert not (run.place.folder / "owner").exists()


def test_a_repeat_keeps_the_earlier_attempt(tmp_path):
    claim(tmp_path, "a", "code", {}).finish({"n": 1})
    again = claim(tmp_path, "a", "code", {})
    assert again.place.attempt == 2
    again.finish({"n": 2})
    third = claim(tmp_path, "a", "code", {})
    third.fail("failed", "why")
    kept = {path.name: read_json(path / "summary.json") for path in (tmp_path / "runs").iterdir()}
    assert kept == {"a": {}, "a.attempt-1": {"n": 1}, "a.attempt-2": {"n": 2}}
    assert read_json(folder_of(tmp_path, "a") / "status.json")["cause"] == "why"


def test_a_run_of_a_living_process_is_not_taken(tmp_path):
    run = claim(tmp_path, "a", "code", {})
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        host = (run.place.folder / "owner").read_text().split()[0]
        (run.place.folder / "owner").write_text(f"{host} {other.pid}\n")
        with pytest.raises(InputError, match="another process"):
            claim(tmp_path, "a", "code", {})
        other.communicate(b"\n")
    assert claim(tmp_path, "a", "code", {}).place.attempt == 2  # its owner is dead


def test_withdrawn_runs_leave_nothing(tmp_path):
    claim(tmp_path, "a", "code", {}).withdraw()
    assert list((tmp_path / "runs").iterdir()) == []


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "values.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    path.write_text('{"a": ')
    assert read_json(path) == {}


def test_a_damaged_owner_file_blocks_nobody(tmp_path):
    run = claim(tmp_path, "a", "code", {})
    (run.place.folder / "owner").write_text("")
    assert claim(tmp_path, "a", "code", {}).place.attempt == 2


def test_a_withdrawn_repeat_leaves_the_finished_run_as_it_was(tmp_path):
    claim(tmp_path, "a", "code", {}).finish({"n": 1})
    claim(tmp_path, "a", "code", {}).withdraw()
    assert finished(tmp_path, "a", "code") == {"n": 1}
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["a"]
