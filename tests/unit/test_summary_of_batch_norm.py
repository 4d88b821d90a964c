"""What a run's summary says of batch norm."""

from __future__ import annotations

import json
from pathlib import Path

import pytest


@pytest.mark.parametrize(("nbs", "pooled"), [("null", 32), ("8", 8), ("32", 32)])
def test_no_more_examples_share_statistics_than_a_batch_has(nbs: str, pooled: int, train, tmp_path: Path) -> None:
    answer = train("model=mlp", "norm=batch", f"norm.nbs={nbs}", "task.batch_size=32", "trainer.steps=1")
    assert answer.status == 0, answer.err
    (summary,) = tmp_path.glob("outputs/runs/*/summary.json")
    assert json.loads(summary.read_text(encoding="utf-8"))["normalisation_batch_size"] == pooled
