"""Estimates time and disk space of a multirun, from past runs or from a short trial of each kind."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import pydantic
from rich.console import Console

from normlab.config.schema import LoggerConfig, RunConfig
from normlab.folder.results import run_folders
from normlab.runs.identity import science
from normlab.runs.run import do
from normlab.sweep.board import duration
from normlab.sweep.plan import Job

TRIALS = 6  # the most short trials; other cells are assumed to cost as much as those of the same model
TRIAL_STEPS = 30


@dataclass(frozen=True)
class Cost:
    """The cost of one run: seconds of its process, megabytes of its folder."""

    seconds: float
    megabytes: float


def estimate(console: Console, jobs: Sequence[Job], todo: Sequence[Job], at_once: int) -> None:
    """Print the missing runs, and their cost."""
    for job in todo[:20]:
        console.print(f"  {job.id}  {' '.join(job.varied)}", soft_wrap=True, highlight=False, markup=False)
    if len(todo) > 20:
        console.print(f"  … and {len(todo) - 20} more")
    if not todo:
        console.print("nothing to do")
        return
    past = past_costs({Path(job.config.output) for job in jobs})
    tried = {} if all(cell_of(job.config) in past for job in todo) else _trials(console, todo, past)
    known = [past.get(cell_of(job.config)) or tried[cell_of(job.config)] for job in todo]
    seconds, megabytes = sum(cost.seconds for cost in known), sum(cost.megabytes for cost in known)
    source = "past runs" if not tried else "short trials" if not past else "past runs and short trials"
    beside = f", with {at_once} in parallel about {duration(seconds / at_once)}" if at_once > 1 else ""
    console.print(
        f"sequentially about {duration(seconds)}{beside}; about {megabytes:.0f} MB on disk (from {source})",
        highlight=False,
        soft_wrap=True,
    )


def cell_of(config: RunConfig) -> str:
    """A key that runs of equal cost share: everything but the seed and the learning rate."""
    values = science(config)
    values["optim"] = {key: value for key, value in values["optim"].items() if key != "lr"}
    return json.dumps({**values, "seed": None}, sort_keys=True)


def past_costs(outputs: set[Path]) -> dict[str, Cost]:
    """Mean cost of the finished runs of each cell."""
    costs: dict[str, list[Cost]] = defaultdict(list)
    for output in outputs:
        for run in run_folders(output):
            seconds = run.read_summary().get("seconds")
            try:
                config = RunConfig.model_validate(run.read_config(), strict=False)
            except pydantic.ValidationError:  # from a version with other options
                continue
            if isinstance(seconds, int | float):
                costs[cell_of(config)].append(Cost(float(seconds), megabytes(run.folder)))
    return {
        cell: Cost(fmean(c.seconds for c in group), fmean(c.megabytes for c in group)) for cell, group in costs.items()
    }


def megabytes(folder: Path) -> float:
    """Size of a folder's files."""
    return sum(path.stat().st_size for path in folder.glob("**/*") if path.is_file()) / 1e6


def _trials(console: Console, todo: Sequence[Job], past: dict[str, Cost]) -> dict[str, Cost]:
    """The cost of each cell without past runs."""
    unknown = {cell_of(job.config): job.config for job in todo if cell_of(job.config) not in past}
    console.print(f"trying {min(len(unknown), TRIALS)} of them for {TRIAL_STEPS} steps …", highlight=False)
    tried: dict[str, Cost] = {}
    models: dict[str, list[Cost]] = defaultdict(list)
    # different models first, so that each model has a trial
    order = sorted(unknown, key=lambda cell: sum(c.model == unknown[cell].model for c in _before(unknown, cell)))
    for cell in order[:TRIALS]:
        tried[cell] = _trial(unknown[cell])
        models[unknown[cell].model_name].append(tried[cell])
    for cell in order[TRIALS:]:
        like = models.get(unknown[cell].model_name) or list(tried.values())
        tried[cell] = Cost(fmean(c.seconds for c in like), fmean(c.megabytes for c in like))
    return tried


def _before(configs: dict[str, RunConfig], cell: str) -> list[RunConfig]:
    cells = list(configs)
    return [configs[other] for other in cells[: cells.index(cell)]]


def _trial(config: RunConfig) -> Cost:
    """Train for a few steps, validate once, and extrapolate."""
    data = importlib.import_module("normlab.data.load").load(config.task, Path(config.cache))
    order = importlib.import_module("normlab.data.loader").loader
    options = config.trainer
    batches = order(data.split("train"), config.task.batch_size, classes_per_batch=config.task.classes_per_batch)
    epoch = min(len(batches), options.batches or 10**9)
    steps = min(epoch * options.epochs, options.steps or 10**9)
    validations = options.validations * max(1, round(steps / epoch))
    short = options.model_copy(update={"steps": min(TRIAL_STEPS, steps), "validations": 1, "progress": False})
    with tempfile.TemporaryDirectory() as folder:
        update = {"trainer": short, "output": folder, "logger": LoggerConfig(), "plan": None, "dry": False}
        done = do(config.model_copy(update=update))
        size = megabytes(done.folder)
    summary = done.summary
    if not config.measure.trains:  # its cost doesn't depend on the training steps
        return Cost(summary["seconds"], size)
    once = max(0.0, summary["fit_seconds"] - summary["train_seconds"])
    return Cost(summary["train_seconds"] / summary["steps"] * steps + once * validations, size)
