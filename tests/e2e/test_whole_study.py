"""The whole study as a user gives it, at the smallest scale."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from normlab.folder.jsonfile import read_json
from normlab.folder.study_table import read_rows
from normlab.study.scale import read_study

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"


def start(output: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "train.py", *options, f"output={output}", "launcher=joblib"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.slow
@pytest.mark.timeout(3000)  # two minutes on two cores of their own, of which a busy machine gives it a part
def test_a_whole_study_runs_at_the_smallest_scale(tmp_path):
    # all findings would take eight minutes; those that decide nothing differ from others in their YAML alone
    options = ("study=textbook", "scale=smoke", "scale.findings=primary")
    process = start(tmp_path, *options)
    out, _ = process.communicate(timeout=2400)
    assert process.returncode == 0, out[-3000:]
    findings = [finding for finding in read_study(CONF, "textbook")[1] if "smoke" in finding.scales and finding.primary]
    verdicts = {
        v["finding"]: v for v in read_json(tmp_path / "studies" / "textbook-smoke" / "verdicts.json")["verdicts"]
    }
    assert set(verdicts) == {finding.name for finding in findings}
    for finding in findings:
        verdict = verdicts[finding.name]
        assert verdict["scale"] == "smoke"
        assert all(arm["n"] == 2 for arm in verdict["arms"]), verdict["reason"]
        assert len(verdict["estimates"]) == len(finding.formulas)
    assert {v["claim"] for v in verdicts.values()} == {1, 2, 3, 4, 5, 6}
    began = time.monotonic()
    again = start(tmp_path, *options)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0
    assert "0 finished before" not in out, "something was done again"
    assert time.monotonic() - began < 60


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on(tmp_path):
    options = ("finding=gradient_growth_conditions", "scale=quick", "scale.seeds.init=2")
    process = start(tmp_path, *options)
    while len(list(tmp_path.glob("runs/*/summary.json"))) < 10:
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/summary.json")}
    process = start(tmp_path, *options)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out[-3000:]
    after = {path.parent.name: path.stat().st_mtime_ns for path in tmp_path.glob("runs/*/summary.json")}
    assert len(after) == 28 * 2
    assert {name: after[name] for name in before} == before
    rows = read_rows(tmp_path / "studies" / "gradient_growth_conditions-quick" / "runs.csv")
    assert len(rows) == 28 * 2


def test_a_dry_study_says_what_it_would_cost(train, tmp_path):
    answer = train("finding=gradient_growth", "scale=smoke", "dry=true", f"output={tmp_path}")
    assert answer.status == 0, answer.err
    assert "1 findings, 6 runs, 0 finished" in answer.out
    assert "sequentially about" in answer.out
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("study=textbok",), "there is no study=textbok. Did you mean 'textbook'?"),
        (("finding=axis",), "there is no finding=axis."),
        (("finding=axes", "scale=qick"), "there is no scale=qick. Did you mean 'quick'?"),
        (("finding=axes", "study=textbook"), "choose study=... or finding=..., not both"),
        (("finding=axes", "model.width=3"), "model.width=3: the findings in conf/finding determine what a study runs"),
        (("finding=axes", "scale.seeds.exact=1"), "scale.seeds.exact=1"),
        (("finding=axes", "scale.seed=3"), "there is no option scale.seed"),
        (("scale=full", "norm=batch"), "scale=full sets how large a study is: choose one too"),
    ],
)
def test_what_cannot_be_asked_of_a_study(train, options, words):
    answer = train(*options)
    assert answer.status == 2
    assert words in answer.err


def test_a_misspelt_finding_of_ones_own_is_recognised(train, tmp_path):
    (tmp_path / "finding").mkdir()
    (tmp_path / "finding" / "my_claim.yaml").touch()
    answer = train("--config-dir", str(tmp_path), "finding=my_clam")
    assert answer.status == 2
    assert "there is no finding=my_clam. Did you mean 'my_claim'?" in answer.err
