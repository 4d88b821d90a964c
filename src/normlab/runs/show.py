"""The end of a run, on one screen. Imports no torch."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from normlab.config.schema import RunConfig
from normlab.folder.run_folder import RunFolder
from normlab.runs.provenance import command

_METRICS = ("accuracy", "f1", "bits_per_character", "perplexity", "loss")


def show(console: Console, config: RunConfig, folder: Path, summary: dict[str, Any], note: str = "") -> None:
    """Print what ran, how good it was, where it lies and how to repeat it."""
    console.print()
    for label, value in _rows(config, folder, summary, note):
        # never folded, so that a command can be copied
        console.print(Text.assemble((f"{label:21}", "bold"), value), soft_wrap=True)


def _rows(config: RunConfig, folder: Path, summary: dict[str, Any], note: str) -> list[tuple[str, str]]:
    rows = [
        (
            "norm · model · task",
            f"{config.norm_name} · {config.model_name} · {config.task.name}, seed {config.seed}",
        ),
        ("parameters", f"{summary['parameters']:,}"),
    ]
    if summary.get("diverged"):
        rows.append(("diverged", f"the loss left the finite numbers by step {summary['steps']}"))
    for split in ("validation", "test"):
        values = _metrics(split, summary)
        if values:
            rows.append((f"best {split}" if split == "validation" else split, values))
    if config.measure.name == "gradient_growth":
        rows += _growth_rows(summary)
    if config.measure.name == "sample_coupling":
        rows += _coupling_rows(summary)
    if config.measure.exclusive:
        rows += _time_rows(config, summary)
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


def _growth_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    first, last = summary["first_layer"], summary["last_layer"]
    return [
        ("gradient growth", f"{_number(summary['gradient_growth'])} a layer backwards, from {last} to {first}"),
        ("activation growth", f"{_number(summary['activation_growth'])} a layer, from {first} to {last}"),
        (
            "gradient, log10 RMS",
            f"{_number(summary['gradient_log10_first'], '+.2f')} at layer 1, "
            f"{_number(summary['gradient_log10_last'], '+.2f')} at layer {summary['layers']}, where it is random",
        ),
        ("cosine", f"{_number(summary['output_cosine'])} between two examples at layer {summary['layers']}"),
    ]


def _coupling_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    for mode, title in (("train", "training"), ("eval", "eval mode")):
        named = [(name, f"{mode}/{name}") for name in ("examples", "positions", "future")]
        values = [f"{name} {_number(summary[key], '.3g')}" for name, key in named if key in summary]
        rows.append((f"coupling, {title}", f"{' · '.join(values)} (relative to its own; 0: none at all)"))
        axes: dict[str, list[str]] = {}
        for key, value in summary.items():
            if key.startswith(f"{mode}/site/"):
                kind, axis = key.split("/")[2:]
                axes.setdefault(kind, []).extend([axis] if value else [])
        sites = [f"{kind} {','.join(found) or 'none'}" for kind, found in axes.items()]
        rows.append((f"axes, {title}", " · ".join(sites)))
    declared = "as the norm declares" if summary["as_declared"] else "NOT what the norm declares"
    rows.append(("", f"the norm's coupling is {declared}"))
    return rows


def _time_rows(config: RunConfig, summary: dict[str, Any]) -> list[tuple[str, str]]:
    what = config.measure.name.removesuffix("_time")
    titles = {"step": "training step", "inference": "forward pass", "site": "norms, both ways"}
    values = [f"{config.norm_name} {summary[f'{what}_ms']:.3f} ms{_kept(summary, '')}"]
    if "against" in summary:
        values.append(f"{summary['against']} {summary[f'{what}_ms_against']:.3f} ms{_kept(summary, '_against')}")
        values.append(f"ratio {summary[f'{what}_ratio']:.3f}")
    rows = [(titles[what], " · ".join(values))]
    if "update_share" in summary:
        share = 100 * summary["update_share"]
        rows.append(("running statistics", f"{share:.1f} % of the time of PyTorch's batch norm"))
    return rows


def _kept(summary: dict[str, Any], suffix: str) -> str:
    """What else there is to say of a time."""
    if f"saved_bytes{suffix}" in summary:
        return f" and {summary[f'saved_bytes{suffix}'] / 1e6:.3f} MB for the backward pass"
    return " (folded)" if summary.get(f"folded{suffix}") else ""


def _number(value: float | None, form: str = ".4f") -> str:
    return "not finite" if value is None else format(value, form)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _wandb_rows(config: RunConfig, folder: Path) -> list[tuple[str, str]]:
    """How to look at an offline W&B run, and how to upload it and all others."""
    runs = sorted(RunFolder(folder).wandb.glob("offline-run-*"))
    if not runs:
        return []
    path = os.path.relpath(runs[-1])
    sync = "make sync" if config.output == "outputs" else f"python scripts/sync.py --runs {shlex.quote(config.output)}"
    return [("W&B, offline", f"view: wandb leet {path}"), ("", f"upload: {sync}")]
