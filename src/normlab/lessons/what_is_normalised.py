"""Where the statistics of each norm are taken: imports of notebook 01."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from normlab.charts.colours import colour_of
from normlab.data.load import load
from normlab.lessons.common import ROOT, config, show
from normlab.norms.batch import BatchNorm
from normlab.norms.group import GroupNorm
from normlab.norms.instance import InstanceNorm
from normlab.norms.layer import LayerNorm
from normlab.norms.layer_channel import LayerChannelNorm

torch.set_printoptions(precision=2, sci_mode=False)
torch.manual_seed(0)

__all__ = [
    "ROOT",
    "BatchNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerChannelNorm",
    "LayerNorm",
    "Path",
    "Rectangle",
    "colour_of",
    "config",
    "load",
    "plt",
    "show",
    "subprocess",
    "sys",
    "torch",
]
