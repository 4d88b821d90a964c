"""A study that is killed, packed, moved and resumed gives the verdicts of one that never moved."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finding_files import finding, write
from normlab.folder.study_folder import StudyFolder

ROOT = Path(__file__).parents[2]
TINY = finding(
    common=["model=mlp", "model.width=8", "task=fashion_mnist", "task.batch_size=16"],
    scales={"smoke": []},
)


def start(*arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out[-3000:]
    return out


@pytest.mark.slow
def test_a_study_that_is_killed_and_moved_gives_the_same_verdicts(tmp_path):
    conf = tmp_path / "mine"
    file = write(conf, {**TINY, "name": "my_planted"}, "my_planted")
    file.write_text(f"# @package _global_\n{file.read_text()}hydra:\n  mode: MULTIRUN\n")
    study = ("train.py", "--config-dir", str(conf), "finding=my_planted", "scale=smoke")
    done(start(*study, f"output={tmp_path / 'still'}"))
    old = tmp_path / "old"
    process = start(*study, f"output={old}")
    while len(list(old.glob("runs/*/summary.json"))) < 4:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    known = {path.parent.name for path in old.glob("runs/*/summary.json")}
    pack, new = tmp_path / "pack.zip", tmp_path / "neu ü"
    done(start("-m", "normlab", "study", "export", str(old / "studies" / "my_planted-smoke"), "-o", str(pack)))
    shutil.rmtree(old)
    said = done(start("-m", "normlab", "study", "import", str(pack), f"output={new}"))
    imported = {path.parent.name: path.stat().st_mtime_ns for path in new.glob("runs/*/summary.json")}
    assert f"{len(imported)} runs and 0 looks are new" in said
    assert len(known) - 1 <= len(imported) <= len(known), "all but one that was killed as it finished"
    assert not list(new.rglob("*.ckpt"))
    done(start(*study, f"output={new}"))
    assert {name: (new / "runs" / name / "summary.json").stat().st_mtime_ns for name in imported} == imported
    one, other = (StudyFolder.at(place, "my_planted-smoke") for place in (tmp_path / "still", new))
    assert other.read_verdicts() == one.read_verdicts()
    assert [row["id"] for row in other.read_runs()] == [row["id"] for row in one.read_runs()]
