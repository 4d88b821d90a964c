"""Findings as files, which tests can corrupt."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


def finding(**changes: Any) -> dict[str, Any]:
    """A whole finding; None leaves a key out."""
    values = {
        "name": "planted",
        "claim": 2,
        "primary": True,
        "title": "A planted effect",
        "statement": "One arm is better than the other.",
        "source": "this test",
        "expect": "nothing",
        "common": ["model=lstm"],
        "arms": {"layer": ["norm=layer"], "batch": ["norm=batch"]},
        "tune": {"points": [1e-3, 3e-3, 1e-2, 3e-2, 1e-1], "by": "validation/accuracy", "best": "max"},
        "metric": "test/accuracy",
        "report": ["test=true"],
        "better": "higher",
        "diverged_value": 0.1,
        "rule": "difference",
        "margin": 0.01,
        "contrasts": {"main": "layer - batch"},
        "scales": {"smoke": ["trainer.steps=2"], "quick": ["trainer.steps=10"]},
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def write(conf: Path, values: dict[str, Any], file: str = "planted") -> Path:
    """`conf/finding/<file>.yaml`."""
    path = conf / "finding" / f"{file}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save({"finding": values}, path)
    return path
