"""What `make clean` removes, and above all what it doesn't."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from run_folders import begin, config_of, finish, save_sealed, write_owner

from normlab.commands import console
from normlab.folder.resume_points import ResumePoint, add_point
from normlab.runs.clean import find_leftovers, remove
from normlab.runs.code import code_hash
from normlab.runs.owner import this_process
from normlab.runs.store import claim

LSTM = ("model=lstm", "norm=layer")


def save(run) -> None:
    """Give the run a resume point."""
    folder = run.place.folder
    (folder / "metrics.jsonl").write_text("{}\n")
    save_sealed(folder / "checkpoints" / "resume-3.ckpt")
    add_point(folder, ResumePoint("resume-3.ckpt", 3, 1))


def repeat(output, name, code):
    config = config_of(*LSTM)
    return claim(output, name, code, config.model_dump(mode="json"), repeat=True)[0]


@pytest.fixture
def runs(tmp_path):
    """A run of every kind; the names of those that must stay begin with keep."""
    present = code_hash(config_of(*LSTM))
    finish(tmp_path, "keep-finished", *LSTM)
    repeat(tmp_path, "keep-finished", present).finish({"n": 2})
    finish(tmp_path, "keep-replaced", *LSTM, code="other")
    repeat(tmp_path, "keep-replaced", present).finish({"n": 2})
    for name, state in (("keep-stopped", "stopped"), ("keep-failed-but-saved", "failed")):
        run = begin(tmp_path, name, *LSTM)
        save(run)
        run.fail(state, "why")
    save(begin(tmp_path, "keep-killed-but-saved", *LSTM))
    begin(tmp_path, "failed", *LSTM).fail("failed", "RuntimeError: out of luck\nmore")
    begin(tmp_path, "failed-other", *LSTM, code="other").fail("failed", "why")
    begin(tmp_path, "failed-killed", *LSTM)
    run = begin(tmp_path, "damaged-torn", *LSTM)
    save(run)
    run.fail("stopped", "why")
    (run.place.folder / "checkpoints" / "resume-3.ckpt").write_bytes(b"torn")
    finish(tmp_path, "stale", *LSTM, code="other")
    run = begin(tmp_path, "stale-unfinished", *LSTM, code="other")
    save(run)
    run.fail("stopped", "why")
    (finish(tmp_path, "damaged", *LSTM) / "summary.json").write_text("{")
    finish(tmp_path, "damaged-aside", *LSTM).rename(tmp_path / "runs" / "damaged-aside.damaged-1")
    run = begin(tmp_path, "keep-running", *LSTM)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
        write_owner(run.place.folder, replace(this_process(), pid=other.pid, started=started))
        yield tmp_path
        other.communicate(b"\n")


def names(output) -> set[str]:
    return {path.name for path in (output / "runs").iterdir()}


def kept(output) -> set[str]:
    return {name for name in names(output) if name.startswith("keep")}


@pytest.fixture
def script(monkeypatch, capsys):
    """`script(output, "--yes")` is `normlab clean --runs output --yes`; `answer` is given on a terminal."""

    def command(output, *arguments, answer=None):
        monkeypatch.setattr(sys, "argv", ["normlab", "clean", "--runs", str(output), *arguments])
        monkeypatch.setattr(sys.stdin, "isatty", lambda: answer is not None, raising=False)
        monkeypatch.setattr("builtins.input", lambda question: print(question) or answer)
        console.main()
        return capsys.readouterr().out

    return command


def test_every_kind_is_told_by_its_name(runs):
    found = {leftover.folder.name: leftover for leftover in find_leftovers(runs)}
    assert not [name for name in found if name.startswith("keep")]
    assert {name: leftover.kind for name, leftover in found.items()} == {
        name: name.partition("-")[0] for name in names(runs) - kept(runs) if name != "damaged-aside.damaged-1"
    } | {"damaged-aside.damaged-1": "damaged"}
    assert found["failed"].why.startswith("failed: RuntimeError: out of luck")
    assert found["stale-unfinished"].size == sum(
        path.stat().st_size for path in (runs / "runs" / "stale-unfinished").rglob("*") if path.is_file()
    )


def test_yes_removes_them_and_nothing_else(runs, script):
    staying = kept(runs)
    assert len(staying) == 8  # six runs and two earlier attempts
    out = script(runs, "--yes")
    assert names(runs) == staying
    assert "failed: 3 runs" in out
    assert "RuntimeError: out of luck\n" in out
    assert "removed 8 runs" in out
    assert "nothing to remove" in script(runs, "--yes")


def test_it_asks_on_a_terminal(runs, script):
    before = names(runs)
    assert "Remove 8 runs" in script(runs, answer="")
    assert names(runs) == before
    script(runs, answer="y")
    assert names(runs) == kept(runs)


def test_where_nobody_can_be_asked_only_failed_runs_go(runs, script):
    staying = {name for name in names(runs) if not name.startswith("failed")}
    out = script(runs)
    assert names(runs) == staying
    assert "removed 3 runs" in out
    assert "kept 5 runs" in out
    assert "--yes" in out


def test_a_run_that_changed_after_the_list_was_made_stays(runs):
    found = [leftover for leftover in find_leftovers(runs) if leftover.folder.name in ("failed", "stale")]
    finish(runs, "failed", *LSTM)  # somebody has done it again meanwhile
    assert [leftover.folder.name for leftover in remove(runs, found)] == ["stale"]
    assert "failed" in names(runs)


def test_an_interrupted_removal_is_finished(runs, script):
    (runs / "runs" / ".gone.removed").mkdir()
    script(runs, answer="n")
    assert ".gone.removed" not in names(runs)


def test_there_is_nothing_to_remove_where_there_are_no_runs(tmp_path, script):
    assert "nothing to remove" in script(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()
