"""Two arms of a table, paired by seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from normlab.config.schema import InputError
from normlab.tables.runs import select

_RESULTS = ("validation/", "test/", "last/", "last_test/", "area/", "gap/", "inside/")

if TYPE_CHECKING:
    from pandas import DataFrame, Series


@dataclass(frozen=True)
class Contrast:
    """The values of a metric in two arms, in the order of the seeds that both have.

    alone     seeds that only one of the arms has
    diverged  how many paired runs of each arm diverged
    """

    metric: str
    seeds: list[int]
    first: list[float]
    second: list[float]
    alone: list[int]
    diverged: tuple[int, int]

    @property
    def differences(self) -> list[float]:
        """First minus second, one per seed."""
        return [a - b for a, b in zip(self.first, self.second, strict=True)]


def check_numbers(alpha: float, margin: float | None, diverged_value: float | None) -> None:
    """Check the numeric options of a comparison before anything is read.

    Raises:
        InputError: an option is outside its range.
    """
    if not 0 < alpha < 1:
        raise InputError(f"--alpha {alpha:g} must lie between 0 and 1, such as 0.05 for a 95 % interval")
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise InputError(f"--margin {margin:g} must be a number above 0, the smallest difference that matters")
    if diverged_value is not None and not math.isfinite(diverged_value):
        raise InputError(f"--diverged {diverged_value:g} must be a finite number, such as chance level")


def contrast(frame: DataFrame, first: str, second: str, metric: str, diverged_value: float | None = None) -> Contrast:
    """Pair two arms.

    Args:
        frame: of `normlab.tables.runs.read_runs`.
        first, second: conditions in pandas' query syntax, each of which selects one run per seed.
        metric: a column, such as validation/accuracy.
        diverged_value: the value for a run that diverged, as bad as chance; dropping the run would favour its arm.

    Raises:
        InputError: an arm is empty or has several runs of one seed, the arms share runs or have fewer than two
        seeds in common, a run diverged without `diverged_value`, or there is no such metric.
    """
    if metric not in frame.columns:
        known = [name for name in frame.columns if name.startswith(_RESULTS)]
        raise InputError(f"no run has {metric}; the runs have: {', '.join(known)}")
    arms = [_arm(frame, condition) for condition in (first, second)]
    shared = set(arms[0]["id"]) & set(arms[1]["id"])
    if shared:
        raise InputError(f"{first!r} and {second!r} are not two different arms: both choose {sorted(shared)[0]}")
    seeds = sorted(set(arms[0]["seed"]) & set(arms[1]["seed"]))
    alone = sorted(set(arms[0]["seed"]) ^ set(arms[1]["seed"]))
    if len(seeds) < 2:
        raise InputError(
            f"the arms have {len(seeds)} seed{'s' * (len(seeds) != 1)} in common; a comparison needs at least two"
        )
    values = [_values(arm.set_index("seed").loc[seeds], metric, diverged_value) for arm in arms]
    counts = [sum(_has_diverged(arm.set_index("seed").loc[seeds])) for arm in arms]
    return Contrast(
        metric=metric,
        seeds=[int(s) for s in seeds],
        first=values[0],
        second=values[1],
        alone=alone,
        diverged=(counts[0], counts[1]),
    )


def _arm(frame: DataFrame, condition: str) -> DataFrame:
    arm = select(frame, condition)
    if arm.empty:
        raise InputError(f"no run fulfils {condition!r}")
    repeated = arm[arm["seed"].duplicated(keep=False)]
    if repeated.empty:
        return arm
    one = repeated[repeated["seed"] == repeated["seed"].iloc[0]]
    choices = [c for c in one.columns if "." in c or c in ("norm", "model", "task", "measure")]
    differ = [c for c in choices if one[c].astype(str).nunique() > 1]
    raise InputError(
        f"{condition!r} selects {len(one)} runs of seed {one['seed'].iloc[0]}, which differ in "
        f"{', '.join(differ[:6])}: narrow it down so that each arm has one run per seed"
    )


def _has_diverged(arm: DataFrame) -> Series:
    diverged = arm.get("diverged")  # a summary of an evaluation has no such entry
    return arm["id"].map(lambda _: False) if diverged is None else diverged.fillna(False).astype(bool)


def _values(arm: DataFrame, metric: str, diverged_value: float | None) -> list[float]:
    try:
        values = arm[metric].astype(float)
    except (TypeError, ValueError):
        raise InputError(f"{metric} is not a number in every run, so it can't be compared") from None
    diverged = _has_diverged(arm)
    if diverged.any():
        if diverged_value is None:
            raise InputError(
                f"{arm['id'][diverged].iloc[0]} diverged: give a value for such runs with --diverged VALUE, "
                "such as chance level; leaving it out would favour its arm"
            )
        values = values.where(~diverged, diverged_value)
    if values.isna().any():
        raise InputError(f"{arm['id'][values.isna()].iloc[0]} has no {metric}")
    infinite = ~values.map(math.isfinite)
    if infinite.any():
        raise InputError(f"{arm['id'][infinite].iloc[0]} has {metric}={values[infinite].iloc[0]}, which is not finite")
    return [float(value) for value in values]
