"""Where the statistics of each norm are taken: what notebook 01 imports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
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
    "draw_table",
    "load",
    "plt",
    "show",
    "subprocess",
    "sys",
    "torch",
]


def draw_table(
    axes: Axes, values: torch.Tensor, title: str, rows: Sequence[str], columns: Sequence[str], limit: float
) -> None:
    """Draw a matrix [rows, columns] with its numbers; colours are at their darkest at ±limit."""
    axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    for i, row in enumerate(values.tolist()):
        for j, value in enumerate(row):
            text, colour = (
                f"{value:.0f}" if limit > 20 else f"{value:+.2f}",
                "white" if abs(value) > 0.6 * limit else "black",
            )
            axes.text(j, i, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
