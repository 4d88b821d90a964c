"""Runs of the committed reference, made again as its table describes them."""

import random
import subprocess
import sys
from pathlib import Path
from statistics import median

import pytest

from normlab.findings.finding import Finding
from normlab.findings.read import read_finding
from normlab.folder.jsonfile import read_json
from normlab.folder.study_table import read_rows

ROOT = Path(__file__).parents[2]
FILES = ROOT / "conf" / "finding"
TABLES = {path.parent.name: read_rows(path) for path in sorted((ROOT / "results" / "reference").glob("*/runs.csv"))}
FINDINGS = 3  # of each table
LONGEST = 30  # seconds that a finding's runs took when the reference was made, by their median


def short(rows: list[dict[str, str]], name: str) -> bool:
    """Are the finding's runs short enough for a test?"""
    took = [float(row["seconds"]) for row in rows if row["finding"] == name and row.get("seconds")]
    return not took or median(took) < LONGEST


def sampled() -> list[tuple[str, str]]:
    """Table and finding. Timed findings are left out, since times differ between machines."""
    drawn = []
    for table, rows in TABLES.items():
        names = sorted({row["finding"] for row in rows})
        untimed = [name for name in names if read_finding(FILES / f"{name}.yaml").seeds != "process"]
        untimed = [name for name in untimed if short(rows, name)]
        drawn += [(table, name) for name in random.Random(0).sample(untimed, min(FINDINGS, len(untimed)))]
    return drawn


def options(finding: Finding, row: dict[str, str]) -> list[str]:
    rate = [f"optim.lr={row['point']}"] if row.get("point") else []
    return [*row["cell"].split(), *finding.report, *rate, f"seed={row['seed']}", "logger=none", "trainer.threads=1"]


@pytest.mark.slow
@pytest.mark.parametrize(("table", "name"), sampled())
def test_a_run_of_the_reference_gives_its_result_again(table, name, tmp_path):
    """Other CPUs round otherwise, so that a training may end a little elsewhere."""
    finding = read_finding(FILES / f"{name}.yaml")
    rows = [
        row for row in TABLES[table] if row["finding"] == name and row["stage"] == "report" and row.get(finding.metric)
    ]
    row = random.Random(0).choice(rows)
    command = [sys.executable, "train.py", *options(finding, row), f"output={tmp_path}"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr[-2000:]
    (summary,) = (read_json(path) for path in tmp_path.glob("runs/*/summary.json"))
    recorded = float(row[finding.metric])
    tolerance = 0.01 * abs(recorded) if finding.rule in ("ratio", "exact") else finding.margin / 2
    if finding.rule == "exact":
        tolerance = max(tolerance, 1e-13)  # a difference that should be 0 is what this processor's rounding makes of it
    close = summary[finding.metric] == pytest.approx(recorded, abs=tolerance)
    if not close and finding.rule == "ratio" and finding.seeds in ("training", "init"):
        # where training is rough, last digits grow to any size: it must be a value that other seeds had there
        same = [float(each[finding.metric]) for each in rows if each["cell"] == row["cell"]]
        close = max(same) >= 1.99 * min(same) and min(same) <= summary[finding.metric] <= max(same)
    assert close, (summary[finding.metric], recorded)
