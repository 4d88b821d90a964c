"""Swapping the norm of a network: imports of notebook 02."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import torch
from matplotlib import pyplot as plt

import normlab
from normlab.charts.colours import colour_of
from normlab.data.load import load
from normlab.lessons.common import OUTPUT as FOLDER
from normlab.lessons.common import ROOT, config, show
from normlab.tables.runs import read_runs

OUTPUT = FOLDER / "notebooks" / "swap_the_norm"

__all__ = [
    "OUTPUT",
    "ROOT",
    "Path",
    "colour_of",
    "config",
    "json",
    "load",
    "normlab",
    "os",
    "pd",
    "plt",
    "read_runs",
    "show",
    "subprocess",
    "sys",
    "torch",
]
