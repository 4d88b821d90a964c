"""The rows of a study of the planted finding, made up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

POINTS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)


def reported(effect: float, n: int = 10, sd: float = 0.004, metric: str = "test/accuracy", base: float = 0.8):
    """Reporting rows in which `layer` is better than `batch` by `effect`, the exact mean over the seeds."""
    d = np.random.default_rng(0).normal(0, 1, n)
    d = effect + sd * (d - d.mean()) / d.std(ddof=1)
    return [
        _row("report", arm, seed, 0.01, metric, float(value))
        for arm, column in {"layer": base + d, "batch": np.full(n, base)}.items()
        for seed, value in enumerate(column)
    ]


def tuned(points: tuple[float, ...] = POINTS) -> list[dict[str, Any]]:
    """Tuning rows of both arms, best at 0.01."""
    return [
        _row("tune", arm, seed, point, "validation/accuracy", 0.8 - abs(math.log10(point / 0.01)))
        for arm in ("layer", "batch")
        for seed in (1000, 1001)
        for point in points
    ]


def _row(stage: str, arm: str, seed: int, point: float, metric: str, value: float) -> dict[str, Any]:
    return {
        "finding": "planted",
        "stage": stage,
        "arm": arm,
        "condition": "",
        "cell": f"model=lstm norm={arm}",
        "point": point,
        "seed": seed,
        "id": f"{arm}-{seed}",
        "outcome": "finished",
        "diverged": False,
        metric: value,
    }
