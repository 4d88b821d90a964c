"""What every reader gives: runs with their facts (config, parameters, tags) and the metrics that they logged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from normlab.config.schema import InputError

if TYPE_CHECKING:
    from pandas import DataFrame, Series

AT = ("last", "max", "min")  # which value of a curve stands for the run
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # as JSON's writers name them
UNSEEN = {"epoch", "step", "_step", "_runtime", "_timestamp", "_wandb", "global_step", "trainer/global_step"}


@dataclass
class Curve:
    """A metric's logged values, of which only these are kept. NaN is a value of `last`, but not of `max` and `min`."""

    last: float = math.nan
    max: float = math.nan
    min: float = math.nan
    count: int = 0
    step: float = math.nan  # of the last value

    def add(self, value: float, step: float) -> None:
        """The next value, in the order of logging."""
        self.last, self.count, self.step = value, self.count + 1, step
        if not math.isnan(value):
            self.max = value if math.isnan(self.max) else max(self.max, value)
            self.min = value if math.isnan(self.min) else min(self.min, value)


@dataclass
class Run:
    """One run of a folder or a server.

    place   where it was read, for messages
    facts   config, parameters, tags: nested keys joined by dots
    curves  metric → its values
    """

    place: str
    facts: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)

    def log(self, metric: str, value: object, step: float = math.nan) -> None:
        """Add a value; values that are not numbers (images, tables) are left out."""
        number = number_of(value)
        if number is not None:
            self.curves.setdefault(metric, Curve()).add(number, step)


class Runs(Protocol):
    """The runs of one FILE.

    file   as the user named it
    key    what a fact is called there: column, config key, parameter
    facts  one row per run
    """

    file: str
    key: str
    facts: DataFrame

    def metrics(self) -> list[str]:
        """Names that may be the metric."""

    def columns(self) -> list[str]:
        """Names that --metric may choose."""

    def values(self, metric: str, at: str) -> Series:
        """One value per run; None: it was never logged."""

    def place(self, row: int) -> str:
        """Of a row, counted from 0, for messages."""

    def ends(self, metric: str) -> list[float]:
        """The steps at which the runs' last values were logged, in order; empty if the metric is no curve."""


class LoggedRuns:
    """Runs of a folder or a server; see `Runs`."""

    def __init__(self, file: str, key: str, runs: Iterable[Run]) -> None:
        from pandas import DataFrame

        self.file, self.key, self.runs = file, key, list(runs)
        if not self.runs:
            raise InputError(f"{file} holds no runs")
        if not any(run.curves for run in self.runs):
            raise InputError(f"{file}: its {len(self.runs)} runs logged no metrics")
        self.facts = DataFrame([run.facts for run in self.runs], dtype=object)

    def metrics(self) -> list[str]:
        """Names that may be the metric."""
        return sorted({name for run in self.runs for name in run.curves} - UNSEEN)

    columns = metrics

    def values(self, metric: str, at: str) -> Series:
        """One value per run; None: it was never logged."""
        from pandas import Series

        curves = [run.curves.get(metric) for run in self.runs]
        return Series([None if curve is None else getattr(curve, at) for curve in curves], dtype=object)

    def place(self, row: int) -> str:
        """Of a row, counted from 0, for messages."""
        return self.runs[row].place

    def ends(self, metric: str) -> list[float]:
        """The steps at which the runs' last values were logged, in order; empty if the metric is no curve."""
        curves = [run.curves[metric] for run in self.runs if metric in run.curves]
        if all(curve.count <= 1 for curve in curves):
            return []
        return sorted({curve.step for curve in curves if not math.isnan(curve.step)})


def number_of(value: object) -> float | None:
    """A logged value as a number; None: it is none."""
    if isinstance(value, str):
        return _WORDS.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists as text."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = str(value) if isinstance(value, list | tuple) else value
    return found


def read_yaml(file: Any) -> dict[str, Any]:
    """A mapping from a YAML file; tags of Python objects, which trainers write, are left out and run nothing.

    Raises:
        InputError: it can't be read, or is no mapping.
    """
    import yaml

    class Plain(yaml.SafeLoader):
        """Reads what has an unknown tag as nothing."""

    Plain.add_multi_constructor("", lambda *_: None)
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), Plain)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{file} can't be read: {' '.join(str(error).split())[:160]}") from None
    if not isinstance(values, dict):
        if values is None:
            return {}
        raise InputError(f"{file} is no mapping of names to values")
    return values
