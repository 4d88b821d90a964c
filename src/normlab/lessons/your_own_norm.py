"""Your own norm: imports of notebook 04."""

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
from normlab.lessons.common import ROOT, config, show
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
    "importlib",
    "json",
    "load",
    "margin_of",
    "math",
    "os",
    "plt",
    "read_finding",
    "read_rows",
    "show",
    "state_of",
    "subprocess",
    "sys",
    "torch",
]
