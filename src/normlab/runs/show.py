"""Prints the result of a run. Imports no torch."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from normlab.config.schema import RunConfig
from normlab.folder.norms_seen import read_found
from normlab.folder.run_folder import RunFolder
from normlab.runs.provenance import command

_METRICS = (
    *("accuracy", "f1", "bits_per_character", "perplexity", "r2", "mae", "rmse"),
    *("mean_iou", "mean_dice", "pixel_accuracy", "loss"),
)


def show(console: Console, config: RunConfig, folder: Path, summary: dict[str, Any], note: str = "") -> None:
    """Print what ran, its result, where it is stored and how to repeat it."""
    console.print()
    for label, value in _rows(config, folder, summary, note):
        # never wrapped, so that a command can be copied
        console.print(Text.assemble((f"{label:20} ", "bold"), value), soft_wrap=True)


def _rows(config: RunConfig, folder: Path, summary: dict[str, Any], note: str) -> list[tuple[str, str]]:
    rows = [
        (
            "norm · model · task",
            f"{config.norm_name} · {config.model_name} · {config.task.name}, seed {config.seed}",
        ),
    ]
    if "parameters" in summary:
        rows.append(("parameters", f"{summary['parameters']:,}"))
    if summary.get("diverged"):
        rows.append(("diverged", f"the loss was no longer finite by step {summary['steps']}"))
    for split in ("validation", "test"):
        values = _metrics(split, summary)
        if values:
            rows.append((f"best {split}" if split == "validation" else split, values))
    rows += config.measure.rows(config, summary)
    rows += [("norms" if number == 0 else "", line) for number, line in enumerate(read_found(folder))]
    if "seconds" in summary:
        rows.append(("time", _duration(summary["seconds"])))
    rows.append(("folder", str(folder)))
    rows += _wandb_rows(config, folder)
    rows.append(("repeat", _repeat()))
    if note:
        rows.append(("", note))
    return rows


def _repeat() -> str:
    return command() if "rerun=true" in command() else f"{command()} rerun=true"


def _metrics(split: str, summary: dict[str, Any]) -> str:
    found = [(name, summary.get(f"{split}/{name}")) for name in _METRICS]
    return " · ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in found if value is not None)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _wandb_rows(config: RunConfig, folder: Path) -> list[tuple[str, str]]:
    """How to view an offline W&B run, and how to upload all of them."""
    runs = sorted(RunFolder(folder).wandb.glob("offline-run-*"))
    if not runs:
        return []
    path = os.path.relpath(runs[-1])
    sync = "make sync" if config.output == "outputs" else f"normlab sync --runs {shlex.quote(config.output)}"
    return [("W&B, offline", f"view: wandb leet {path}"), ("", f"upload: {sync}")]
