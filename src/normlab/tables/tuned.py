"""The runs of an arm whose optimiser was tuned: the best point, and why the other runs are left out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from normlab.config.metrics import higher_is_better
from normlab.tables.runs import select

if TYPE_CHECKING:
    from pandas import DataFrame

LEAST = 2  # seeds with a single run, from which an arm that was tuned on others is compared


def at_chosen_rate(frame: DataFrame, condition: str, metric: str) -> tuple[DataFrame, list[str]]:
    """Without an arm's tuning runs, or its runs at all but its best learning rate (or other options of the optimiser).

    If some seeds have one run, all at one point, those with several are left out, as tuning does. If every seed has
    several, the point with the best mean of the validation metric stays.

    Args:
        frame: of `normlab.tables.runs.read_runs`.
        condition: the arm, in pandas' query syntax.
        metric: which is compared; its namesake on validation chooses.

    Returns:
        The runs that are left, and in words which were left out and why; all of them if nothing was tuned, or if an
        arm's runs of one seed differ in other options too.

    Raises:
        InputError: the condition can't be read.
    """
    arm = select(frame, condition)
    repeated = arm[arm["seed"].duplicated(keep=False)]
    options = _varied(repeated)
    if repeated.empty or not options or not all(name.startswith("optim.") for name in options):
        return frame, []
    singles = arm[~arm["seed"].isin(repeated["seed"])]
    if len(singles) >= LEAST and singles[options].astype(str).drop_duplicates().shape[0] == 1:
        seeds = ", ".join(str(seed) for seed in sorted(set(repeated["seed"])))
        one = _point(singles.iloc[0], options)
        why = f"these seeds have several {', '.join(options)}, as in tuning; the others only {one}"
        return _without(frame, repeated), [f"left out: {_runs(len(repeated))} of {condition}, seeds {seeds}: {why}"]
    return _at_best(frame, arm, options, (condition, metric))


def _at_best(
    frame: DataFrame, arm: DataFrame, options: list[str], named: tuple[str, str]
) -> tuple[DataFrame, list[str]]:
    condition, metric = named
    bare = metric.rpartition("/")[2]
    column, higher = f"validation/{bare}", higher_is_better(bare)
    if column not in arm.columns:
        return frame, []
    most = arm.groupby("seed").size().max()
    points = [group for _, group in arm.groupby(options, dropna=False)]
    means = [_mean(group, column, higher=higher) for group in points]
    best = points[means.index(max(means))]
    rest = arm[~arm["id"].isin(best["id"])]
    why = f"{_point(best.iloc[0], options)} has the best mean {column} of {len(points)} points, on these very seeds"
    if most > len(points):  # one point has several runs of a seed: something else differs
        return frame, []
    return _without(frame, rest), [f"left out: {_runs(len(rest))} of {condition}: {why}"]


def _mean(group: DataFrame, column: str, *, higher: bool) -> float:
    """The higher the better; a point where a run diverged or has no value is the worst."""
    diverged = group.get("diverged")
    if diverged is not None and diverged.fillna(False).astype(bool).any():
        return -math.inf
    mean = float(group[column].astype(float).mean(skipna=False))
    if not math.isfinite(mean):
        return -math.inf
    return mean if higher else -mean


def _varied(repeated: DataFrame) -> list[str]:
    """The options in which runs of one seed differ."""
    names = [c for c in repeated.columns if ("." in c and "/" not in c) or c in ("norm", "model", "task", "measure")]
    groups = [group for _, group in repeated.groupby("seed")]
    return [name for name in names if any(group[name].astype(str).nunique() > 1 for group in groups)]


def _point(run: Any, options: list[str]) -> str:
    return " ".join(
        f"{name}={run[name]:g}" if isinstance(run[name], float) else f"{name}={run[name]}" for name in options
    )


def _without(frame: DataFrame, runs: DataFrame) -> DataFrame:
    return frame[~frame["id"].isin(runs["id"])]


def _runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"
