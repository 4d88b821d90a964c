"""The whole textbook study at full scale, with made-up numbers: as large a page as a user's own study gives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from omegaconf import OmegaConf

from normlab.config.shipped import CONF
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.judge import judge
from normlab.folder.jsonfile import write_json
from normlab.folder.study_table import write_rows
from normlab.study.scale import Scale, read_study

VALIDATIONS = 16  # of a training run
INSIDE = (
    *("gradient", "activation", "tid_mean", "tid_mean_iid", "tid_var", "tid_var_iid"),
    *("cosine", "stable_rank", "gain_drift", "dead"),
)


def save_textbook(folder: Path, name: str = "full") -> Path:
    """Tables, curves and verdicts of every finding that the scale runs."""
    folder.mkdir(parents=True)
    scale = Scale.model_validate_json(json.dumps(OmegaConf.to_container(OmegaConf.load(CONF / f"scale/{name}.yaml"))))
    rng = np.random.default_rng(0)
    rows, curves, verdicts, rules = [], [], [], {}
    for finding in read_study(CONF, "textbook")[1]:
        if name not in finding.scales:
            continue
        seeds = scale.reporting(finding)
        reported = [_reported(finding, cell, seed, rng) for seed in seeds for cell in finding.cells]
        rows += [*_tuned(finding, scale, rng), *reported]
        curves += [point for row in reported if finding.tune for point in _curve(row, rng)]
        verdicts.append(asdict(judge(finding, reported, len(seeds), name, {})))
        rules[finding.name] = finding.rule_hash
    write_rows(folder / "runs.csv", rows)
    pandas.DataFrame(curves).to_csv(folder / "curves.csv", index=False)
    write_json(folder / "verdicts.json", {"verdicts": verdicts, "looks": {}})
    write_json(folder / "manifest.json", {"command": f"python train.py study=textbook scale={name}", "rules": rules})
    return folder


def _reported(finding: Finding, cell: Cell, seed: int, rng: np.random.Generator) -> dict[str, Any]:
    row = _row(finding, "report", cell, seed, finding.tune.points[2] if finding.tune else None)
    if finding.rule == "exact":
        return row | {name: _within(bounds) for name, bounds in finding.bounds.get(str(cell), {}).items()}
    value = 0.5 + 0.02 * finding.cells.index(cell) + 0.01 * rng.random()
    row |= {finding.metric: value, **dict.fromkeys(finding.also.values(), value)}
    return row | {f"inside/{name}": float(rng.random()) for name in INSIDE if finding.tune}


def _tuned(finding: Finding, scale: Scale, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    for cell in dict.fromkeys(map(finding.tuned_at, finding.cells)) if finding.tune else []:
        for point in finding.tune.points:
            for seed in scale.tuning_range(finding):
                score = 0.8 - 0.1 * abs(math.log10(point / finding.tune.points[2])) + 0.01 * rng.random()
                row = _row(finding, "tune", cell, seed, point)
                yield row | {finding.tune.by: score if finding.tune.best == "max" else 1 - score}


def _curve(row: dict[str, Any], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    where = {name: row[name] for name in ("finding", "arm", "condition", "seed", "id")}
    for step in range(100, 100 * VALIDATIONS + 1, 100):
        value = 0.9 - 10 / step + 0.01 * rng.random()
        names = ("accuracy", "loss", "bits_per_character")
        yield {**where, "step": step, **{f"validation/{name}": value for name in names}}


def _row(finding: Finding, stage: str, cell: Cell, seed: int, point: float | None) -> dict[str, Any]:
    return {
        "finding": finding.name,
        "stage": stage,
        "arm": cell.arm,
        "condition": cell.condition,
        "cell": " ".join(finding.choices(cell, "full")),
        "point": point,
        "seed": seed,
        "id": f"{finding.name[:12]}-{cell.arm}-{cell.condition}-made_up-{seed}-0123456789",
        "outcome": "finished",
        "diverged": False,
    }


def _within(bounds: tuple[float | None, float | None]) -> float:
    low, high = bounds
    return low if low is not None else high if high is not None else 0.0
