"""Tuning runs of a real study that pause, of which the best go on: killed between the stages, it chooses the same."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finding_files import finding, write
from normlab.folder.run_folder import RunFolder
from normlab.folder.study_folder import StudyFolder

ROOT = Path(__file__).parents[2]
TINY = finding(
    name="my_planted",
    common=["model=mlp", "model.width=8", "task=fashion_mnist", "task.batch_size=16"],
    scales={"smoke": ["trainer.epochs=1", "trainer.batches=16", "trainer.steps=16", "trainer.validations=8"]},
)
RULE = "scale.early_ends=[{at: 0.25, keep: 0.4}]"


def study(conf: Path, output: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "train.py", "--config-dir", str(conf), "finding=my_planted", "scale=smoke"]
    own = ("scale.tuning=own", "scale.points=null", "scale.widen=false", f"output={output}")
    return subprocess.Popen(
        [*command, *own, *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def done(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out[-3000:]
    return out


def states(output: Path) -> list[str]:
    return [RunFolder(path).read_status().get("state", "") for path in output.glob("runs/*")]


def tuned(output: Path) -> dict[str, dict]:
    """id → row of each tuning run."""
    rows = StudyFolder.at(output, "my_planted-smoke").read_runs()
    return {row["id"]: row for row in rows if row["stage"] == "tune"}


@pytest.mark.slow
def test_a_study_killed_between_its_stages_ends_and_chooses_the_same(tmp_path):
    conf, still, killed, full = (tmp_path / name for name in ("conf", "still", "killed", "full"))
    file = write(conf, TINY, "my_planted")
    file.write_text(f"# @package _global_\n{file.read_text()}hydra:\n  mode: MULTIRUN\n")
    out = " ".join(done(study(conf, still, RULE)).split())
    assert "10 runs, 10 of them to 25 % of their steps" in out
    assert "paused: mlp-layer-fashion_mnist-1000" in out
    assert "at step 4 of 16 (25 %), resumes if it is kept" in out
    for count in (3, 10):  # while runs go to their pause, and when all are there
        process = study(conf, killed, RULE)
        while states(killed).count("paused") + states(killed).count("finished") < count:
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done(study(conf, killed, RULE))
    one, other = (StudyFolder.at(output, "my_planted-smoke") for output in (still, killed))
    assert other.read_verdicts() == one.read_verdicts()
    assert tuned(killed) == tuned(still)
    assert [row["outcome"] for row in tuned(still).values()].count("paused") == 6
    assert {row["steps"] for row in tuned(still).values() if row["outcome"] == "paused"} == {4}

    done(study(conf, full))  # every point to its end: the same runs, and those that went on end with the same bits
    assert set(tuned(full)) == set(tuned(still))
    for run, row in tuned(still).items():
        if row["outcome"] == "finished":
            assert row == tuned(full)[run]
