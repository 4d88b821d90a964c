"""Your own norm: what notebook 04 imports."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt

from normlab.charts.colours import colour_of
from normlab.data.load import load
from normlab.findings.estimates import margin_of
from normlab.findings.judge import state_of
from normlab.findings.read import read_finding
from normlab.folder.study_table import read_rows
from normlab.lessons.common import OUTPUT as FOLDER
from normlab.lessons.common import ROOT, config, show, train_py
from normlab.norms.layer import LayerNorm

OUTPUT = FOLDER.resolve() / "notebooks" / "your_own_norm"
MINE = OUTPUT / "mine"  # the norm, and below conf/ its YAML and the finding's
for group in ("norm", "finding"):
    (MINE / "conf" / group).mkdir(parents=True, exist_ok=True)
sys.path.insert(0, str(MINE))

__all__ = [
    "MINE",
    "OUTPUT",
    "ROOT",
    "LayerNorm",
    "Path",
    "colour_of",
    "config",
    "contract",
    "importlib",
    "json",
    "load",
    "margin_of",
    "math",
    "plt",
    "read_finding",
    "read_rows",
    "show",
    "state_of",
    "torch",
    "train",
]

PATH = {**os.environ, "PYTHONPATH": str(MINE), "FORCE_COLOR": "", "TERM": "dumb"}  # where Python finds l1_layer.py


def contract() -> list[str]:
    """Hold the norm to the contract; what it breaks, by test."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "--tb=no", "-rf", "tests/contract/test_norm_contract.py"]
    environment = {**PATH, "NORMLAB_NORM": str(MINE / "conf" / "norm" / "l1_layer.yaml")}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
    broken = [line.split("::")[1].split(" - ")[0] for line in said.splitlines() if line.startswith("FAILED")]
    print("\n".join(broken))
    print(said.splitlines()[-1])
    return broken


def train(*choices: str) -> int:
    """`python train.py --config-dir mine/conf CHOICES`; returns its exit status."""
    return train_py(["--config-dir", str(MINE / "conf"), *choices, f"output={OUTPUT}"], PATH)
