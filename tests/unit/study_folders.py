"""Folders of studies of the planted finding, as an engine leaves them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas
from made_up_studies import reported, tuned

from normlab.findings.finding import Finding
from normlab.findings.judge import judge
from normlab.folder.jsonfile import write_json
from normlab.folder.study_table import write_rows

ADVICE = [{"model": "lstm", "when": "few_examples", "contrast": "main", "plus": "layer", "minus": "batch"}]


def save(folder: Path, fixed: Finding, effect: float, scale: str = "quick", n: int = 8, **manifest: Any) -> Path:
    """A study with tuning, curves and a look inside, in which `layer` is better by `effect`."""
    folder.mkdir(parents=True)
    rows = [row for row in reported(effect, max(n, 2)) if row["seed"] < n]
    rows = [{**row, "inside/tid_mean": 0.1 + row["seed"] / 100, "inside/tid_mean_iid": 0.05} for row in rows]
    write_rows(folder / "runs.csv", [*tuned(), *rows])
    curves = [
        {"finding": "planted", "arm": row["arm"], "condition": "", "seed": row["seed"], "id": row["id"], "step": step,
         "validation/accuracy": row["test/accuracy"] - 1 / step}
        for row in rows
        for step in (10, 20, 30)
    ]  # fmt: skip
    pandas.DataFrame(curves).to_csv(folder / "curves.csv", index=False)
    verdict = judge(fixed, rows, n, scale, {})
    write_json(folder / "verdicts.json", {"verdicts": [asdict(verdict)], "looks": {}})
    rules = {"planted": fixed.rule_hash}
    write_json(folder / "manifest.json", {"command": "python train.py finding=planted", "rules": rules, **manifest})
    return folder
