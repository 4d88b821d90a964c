"""A multirun's cells: the runs that differ only in their seed, and how arms differ on the seeds that they share."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev

from rich.console import Console

from normlab.command_line.columns import Column, show
from normlab.config.metrics import higher_is_better
from normlab.folder.run_folder import RunFolder
from normlab.stats import guarded
from normlab.sweep.plan import Job, Outcome
from normlab.sweep.results import main_value

ALPHA = 0.05  # one minus the intervals' level
MINUS = "\N{MINUS SIGN}"


@dataclass
class Cell:
    """The runs of one point of a multirun.

    name      the varied options without the seed
    group     what its arms share: every varied option but the norm's; without a varied norm, model, task and measure
    values    seed → value, of the runs that have one and didn't diverge
    diverged  seeds whose run diverged
    higher    are higher values better? None: not known, so there is no best
    """

    name: str
    group: str
    metric: str = ""
    values: dict[int, float] = field(default_factory=dict)
    diverged: list[int] = field(default_factory=list)
    higher: bool | None = None

    @property
    def mean(self) -> float:
        """Of its runs that didn't diverge."""
        return fmean(self.values.values())

    @property
    def sd(self) -> float | None:
        """Sample standard deviation over seeds; None of a single one."""
        return stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def best(self) -> float | None:
        """Of its seeds."""
        if self.higher is None or not self.values:
            return None
        return (max if self.higher else min)(self.values.values())


@dataclass(frozen=True)
class Paired:
    """A cell minus the first cell of its group, on the seeds that both have.

    why  without an interval: why
    """

    first: str
    n: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    why: str = ""


def cells_of(jobs: Sequence[Job], outcomes: Mapping[int, Outcome]) -> list[Cell]:
    """The cells that have a result, in the order of the jobs, those of a group together.

    A run's value is its score on the test split if every run has read it, and otherwise on validation.
    """
    results = [job for job in jobs if outcomes[job.number].is_result and outcomes[job.number].state != "paused"]
    summaries = [RunFolder(job.folder).read_summary() for job in results]
    tested = all(summary.get("diverged") or main_value(summary, "test") for summary in summaries)
    split = "test" if tested else "validation"
    swept = any(_is_of_norm(option) for job in jobs for option in job.varied)
    found: dict[str, Cell] = {}
    for job, summary in zip(results, summaries, strict=True):
        cell = found.setdefault(job.cell, Cell(job.cell or "(defaults)", _group(job, swept=swept)))
        score = main_value(summary, split)
        if summary.get("diverged"):
            cell.diverged.append(job.config.seed)
        elif score is not None:
            cell.metric, cell.higher = f"{split} {score[0].replace('_', ' ')}", higher_is_better(score[0])
            cell.values[job.config.seed] = score[1]
        elif (value := job.config.measure.main_value(summary)) is not None:
            cell.metric, cell.values[job.config.seed] = value[0].replace("_", " "), value[1]
    groups = list(dict.fromkeys(cell.group for cell in found.values()))  # a group's arms stand below each other
    ordered = sorted(found.values(), key=lambda cell: groups.index(cell.group))
    return [cell for cell in ordered if cell.values or cell.diverged]


def _is_of_norm(option: str) -> bool:
    return option.lstrip("+~").startswith(("norm=", "norm."))


def _group(job: Job, *, swept: bool) -> str:
    if swept:
        return " ".join(o for o in job.varied if not _is_of_norm(o) and not o.startswith("seed="))
    return f"{job.config.model_name} {job.config.task.name} {job.config.measure.name}"


def paired(cells: Sequence[Cell]) -> list[Paired | None]:
    """For each cell its difference from the first cell of its group; None for the first, or without shared seeds."""
    first: dict[str, Cell] = {}
    return [_against(first.setdefault(cell.group, cell), cell) for cell in cells]


def _against(first: Cell, cell: Cell) -> Paired | None:
    if cell is first or (first.metric and cell.metric and first.metric != cell.metric):
        return None
    if lost := {*first.diverged} | {*cell.diverged}:
        return Paired(first.name, 0, None, why=f"{len(lost)} seed{'s' * (len(lost) > 1)} diverged")
    seeds = sorted(set(first.values) & set(cell.values))
    if not seeds:
        return None
    d = [cell.values[seed] - first.values[seed] for seed in seeds]
    if len(d) < guarded.LEAST:
        return Paired(first.name, len(d), fmean(d), why=f"n={len(d)}: too few for an interval")
    found = guarded.interval(d, ALPHA)
    if math.isinf(found.low):
        return Paired(first.name, len(d), fmean(d), why="all equal: no interval")
    return Paired(first.name, len(d), fmean(d), found.low, found.high)


def print_cells(console: Console, cells: Sequence[Cell], differences: Sequence[Paired | None]) -> None:
    """One row per cell, if there are several runs to summarise.

    Args:
        differences: as `paired` gives them.
    """
    if sum(len(cell.values) + len(cell.diverged) for cell in cells) < 2:
        return
    metrics = list(dict.fromkeys(cell.metric for cell in cells if cell.metric))
    columns = [
        Column("cell"),
        Column(metrics[0] if len(metrics) == 1 else "mean ± sd", right=True),
        Column("n", right=True),
        Column("diverged" if any(cell.diverged for cell in cells) else "", right=True),
        Column("best", cut=2, right=True),
        Column(_title(differences), wraps=True),
    ]
    rows = [
        [
            cell.name,
            _spread(cell, named=len(metrics) > 1),
            str(len(cell.values)),
            _lost(cell),
            _best(cell),
            _words(pair),
        ]
        for cell, pair in zip(cells, differences, strict=True)
    ]
    console.print()
    show(console, columns, rows)
    if any(pair is not None and pair.low is not None for pair in differences):
        level = f"[ ]: {100 * (1 - ALPHA):g} % interval of the mean difference, paired by seed, for a single look"
        console.print(f"[dim]{level.replace('[', chr(92) + '[')}[/]", highlight=False)
    if any(pair is not None and pair.why.startswith("n=") for pair in differences):
        console.print(f"[dim]an interval needs {guarded.LEAST} seeds that both arms have[/]", highlight=False)


def write_cells(path: Path, cells: Sequence[Cell], differences: Sequence[Paired | None]) -> None:
    """The same table as CSV, with all digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        header = ["cell", "metric", "mean", "sd", "n", "best", "diverged"]
        rows.writerow([*header, "first", "pairs", "difference", "low", "high", "why_no_interval"])
        for cell, pair in zip(cells, differences, strict=True):
            numbers = [cell.mean, cell.sd, len(cell.values), cell.best] if cell.values else ["", "", 0, ""]
            apart = [pair.first, pair.n, pair.mean, pair.low, pair.high, pair.why] if pair else [""] * 6
            values = [cell.name, cell.metric, *numbers, len(cell.diverged), *apart]
            rows.writerow(["" if value is None else value for value in values])


def _spread(cell: Cell, *, named: bool) -> str:
    if not cell.values:
        return ""
    sd = f" ± {cell.sd:.4f}" if cell.sd is not None else ""
    return f"{cell.metric} " * named + f"{cell.mean:.4f}{sd}"


def _lost(cell: Cell) -> str:
    return str(len(cell.diverged)) if cell.diverged else ""


def _best(cell: Cell) -> str:
    return f"{cell.best:.4f}" if cell.best is not None else ""


def _words(pair: Paired | None) -> str:
    if pair is None:
        return ""
    mean = "" if pair.mean is None else _signed(pair.mean)
    if pair.low is None or pair.high is None:
        return f"{mean} ({pair.why})".strip()
    return f"{mean} [{_signed(pair.low)}, {_signed(pair.high)}]"


def _title(differences: Sequence[Paired | None]) -> str:
    """Of the column of differences: the norm that they are from, if it is the same in every group."""
    firsts = {pair.first for pair in differences if pair is not None}
    norms = {" ".join(filter(_is_of_norm, first.split(" "))) or first for first in firsts}
    return "" if not firsts else f"minus {norms.pop()}" if len(norms) == 1 else "minus the first of its kind"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", MINUS)
