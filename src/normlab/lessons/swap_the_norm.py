"""Swapping the norm of a network: what notebook 02 imports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib import pyplot as plt

import normlab
from normlab.charts.colours import colour_of
from normlab.data.load import load
from normlab.folder.run_folder import RunFolder
from normlab.lessons.common import OUTPUT as FOLDER
from normlab.lessons.common import ROOT, config, show, train_py
from normlab.tables.runs import read_runs

OUTPUT = FOLDER / "notebooks" / "swap_the_norm"

__all__ = [
    "OUTPUT",
    "ROOT",
    "Path",
    "colour_of",
    "config",
    "curves",
    "load",
    "log",
    "normlab",
    "pd",
    "plt",
    "read_runs",
    "runs",
    "show",
    "torch",
    "train",
]

FIXED = ["logger=none", "trainer.threads=1", "trainer.progress=false", "trainer.log_every=10", "launcher=joblib"]


def train(*choices: str) -> None:
    """`python train.py -m CHOICES`, and the table of its runs."""
    assert train_py(["-m", *choices, f"output={OUTPUT}", *FIXED]) == 0


def runs(where: str) -> dict[str, Mapping[str, Any]]:
    """The finished runs that fulfil a condition, by norm."""
    table = read_runs(OUTPUT, where)
    return {row["norm"]: row for _, row in table.sort_values("norm", ascending=False).iterrows()}


def log(run: Mapping[str, Any]) -> pd.DataFrame:
    """All that a run has logged, one row per step."""
    return pd.DataFrame(RunFolder.at(OUTPUT, run["id"]).read_rows().rows).groupby("step").first()


def curves(found: Mapping[str, Mapping[str, Any]], metric: str, better: str) -> None:
    """Training loss on the left, validation on the right."""
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 2.9), layout="constrained")
    for norm, run in found.items():
        logged = log(run)
        axes[0].plot(logged["train/loss"].dropna(), color=colour_of(norm), label=norm)
        axes[1].plot(logged[f"validation/{metric}"].dropna(), "o-", ms=4, color=colour_of(norm), label=norm)
    axes[0].set(xlabel="step", ylabel="loss, nats", title="training (one batch)", yscale="log")
    axes[1].set(xlabel="step", ylabel=metric.replace("_", " "), title=f"validation ({better} is better), one seed")
    axes[0].legend()
    show(figure, "Over training, for each norm: the loss on the left, the validation metric on the right.")
