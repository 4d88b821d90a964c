"""Estimates time and disk space of a multirun, from past runs or from a short trial of each kind."""

from __future__ import annotations

import importlib
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import pydantic
from rich.console import Console

from normlab.command_line.columns import Column, show
from normlab.config.components import PROJECT
from normlab.config.measures.training import pause_step
from normlab.config.schema import LoggerConfig, RunConfig, TaskConfig
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


def estimate(
    console: Console,
    jobs: Sequence[Job],
    todo: Sequence[Job],
    at_once: int,
    chances: Mapping[int, float] | None = None,
) -> None:
    """Print what is missing, and what it would cost.

    Args:
        chances: job number → the chance that its run will be needed; None: all are.
    """
    rows = [[job.id, " ".join(job.varied)] for job in todo[:20]]
    show(console, [Column("", cut=1), Column("", wraps=True)], rows)
    if len(todo) > 20:
        console.print(f"  … and {len(todo) - 20} more")
    if not todo:
        console.print("nothing to do")
        return
    past = past_costs({Path(job.config.output) for job in jobs})
    tried = {} if all(cell_of(job.config) in past for job in todo) else _trials(console, todo, past)
    whole = [past.get(cell_of(job.config)) or tried[cell_of(job.config)] for job in todo]
    shares = [share_of_run(job) for job in todo]
    known = [Cost(share * cost.seconds, cost.megabytes) for share, cost in zip(shares, whole, strict=True)]
    seconds, megabytes = sum(cost.seconds for cost in known), sum(cost.megabytes for cost in known)
    source = "past runs" if not tried else "short trials" if not past else "past runs and short trials"
    beside = f", with {at_once} in parallel about {duration(seconds / at_once)}" if at_once > 1 else ""
    if chances is not None and any(chances[job.number] < 1 for job in todo):
        expected = sum(chances[job.number] * cost.seconds for job, cost in zip(todo, known, strict=True))
        console.print(
            f"expected, sequentially: about {duration(expected)}, as if arms were equal and differences spread by half "
            f"of the margin; at most:",
            highlight=False,
            soft_wrap=True,
        )
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
    # different models first, so that each model has a trial
    order = sorted(unknown, key=lambda cell: sum(c.model == unknown[cell].model for c in _before(unknown, cell)))
    for cell in order[:TRIALS]:
        tried[cell] = _trial(unknown[cell])
    known = {cell: (unknown[cell], tried[cell]) for cell in order[:TRIALS]}
    return tried | {cell: _like(unknown[cell], list(known.values())) for cell in order[TRIALS:]}


def _like(config: RunConfig, tried: Sequence[tuple[RunConfig, Cost]]) -> Cost:
    """The mean cost of runs that were tried, for as many steps; of the same model, if there are any."""
    alike = [(other, cost) for other, cost in tried if other.measure.trains == config.measure.trains] or tried
    alike = [(other, cost) for other, cost in alike if other.model_name == config.model_name] or alike
    steps = steps_of(config)
    seconds = [cost.seconds * (steps / steps_of(other) if steps and steps_of(other) else 1) for other, cost in alike]
    return Cost(fmean(seconds), fmean(cost.megabytes for _, cost in alike))


def _before(configs: dict[str, RunConfig], cell: str) -> list[RunConfig]:
    cells = list(configs)
    return [configs[other] for other in cells[: cells.index(cell)]]


def steps_of(config: RunConfig) -> int:
    """Optimiser steps of a training; 0 of a measure that doesn't train."""
    return _epoch_and_steps(config)[1] if config.measure.trains else 0


def share_of_run(job: Job) -> float:
    """Which part of its run a job does: up to its pause, a whole run's steps."""
    if job.pause is None or not job.config.measure.trains:
        return 1.0
    epoch, steps = _epoch_and_steps(job.config)
    epoch = min(epoch, steps)  # validations are spread over the steps if they are fewer
    return pause_step(job.pause, steps=steps, epoch=epoch, count=job.config.trainer.validations) / steps


def steps_of_job(job: Job) -> int:
    """Optimiser steps of a training up to its end, or its pause."""
    return round(share_of_run(job) * steps_of(job.config))


def _epoch_and_steps(config: RunConfig) -> tuple[int, int]:
    """Batches of an epoch, and steps of the run."""
    options = config.trainer
    every = config.model["trainer"]["accumulate_grad_batches"] if config.model["_target_"] == PROJECT else 1
    epoch = math.ceil(min(_batches(config), options.batches or 10**9) / every)
    return epoch, min(epoch * options.epochs, options.steps or 10**9)


def _batches(config: RunConfig) -> int:
    """Batches of the training split."""
    if config.model["_target_"] == PROJECT:
        return _batches_of_project(config.model_dump_json())
    return _batches_of_task(config.task.model_dump_json(), config.cache)


@lru_cache(maxsize=64)
def _batches_of_project(config: str) -> int:
    """Of a config as JSON, as it can't be hashed."""
    made = importlib.import_module("normlab.project.project").batches(RunConfig.model_validate_json(config))
    return int(made)


@lru_cache(maxsize=64)
def _batches_of_task(task: str, cache: str) -> int:
    """Of a task as JSON, as its config can't be hashed."""
    config = TaskConfig.model_validate_json(task)
    data = importlib.import_module("normlab.data.load").load(config, Path(cache))
    order = importlib.import_module("normlab.data.loader").loader
    return len(order(data.split("train"), config.batch_size, classes_per_batch=config.classes_per_batch))


def _trial(config: RunConfig) -> Cost:
    """Train for a few steps, validate once, and reckon from there."""
    options = config.trainer
    epoch, steps = _epoch_and_steps(config)
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
