"""The verdict on two arms, paired by seed, of a table of runs from any source. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normlab.config.schema import InputError
from normlab.findings.judge import ruled
from normlab.findings.verdict import Estimate
from normlab.stats.guarded import LEAST
from normlab.stats.sequential import Design

if TYPE_CHECKING:
    from pandas import DataFrame, Series

NAMES = {
    "arm": ("arm", "norm", "method", "model", "variant", "group", "name"),
    "seed": ("seed", "random_seed", "run_seed"),
}


@dataclass(frozen=True)
class Pairs:
    """The scores of two arms on the seeds that both have.

    arms      the one that is claimed to be better, and the other
    seeds     the seeds that both have, in order
    values    the scores of each arm, in the order of the seeds; nan: the run failed
    alone     how many seeds only one of the arms has
    """

    metric: str
    arms: tuple[str, str]
    seeds: list[int]
    values: tuple[list[float], list[float]]
    alone: int

    def differences(self, *, lower: bool = False) -> dict[int, float]:
        """First minus second (`lower`: second minus first), on the seeds on which neither failed."""
        sign = -1.0 if lower else 1.0
        pairs = zip(self.seeds, *self.values, strict=True)
        return {seed: sign * (one - two) for seed, one, two in pairs if np.isfinite(one - two)}


def read_tables(files: Sequence[Path]) -> DataFrame:
    """One table of all files: CSV, Parquet, or JSON with one line per run.

    Raises:
        InputError: a file can't be read, or its name has none of these formats' suffixes.
    """
    import pandas

    readers = {
        ".csv": pandas.read_csv,
        ".parquet": pandas.read_parquet,
        ".jsonl": lambda path: pandas.read_json(path, lines=True),
    }
    tables = []
    for path in files:
        if path.suffix not in readers:
            raise InputError(f"{path}: only .csv, .parquet and .jsonl files are read; export the runs to one of these")
        try:
            tables.append(readers[path.suffix](path))
        except ImportError:
            raise InputError(f"{path}: Parquet needs pyarrow: pip install pyarrow, or export the runs as CSV") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    return pandas.concat(tables, ignore_index=True)


def pairs_of(
    table: DataFrame,
    arm: str | None = None,
    seed: str | None = None,
    metric: str | None = None,
    first: str | None = None,
) -> Pairs:
    """Find the columns, and pair the two arms.

    Args:
        first: the arm that is claimed to be better; None: the arm of the first row.

    Raises:
        InputError: a column is missing or not unique, there are not exactly two arms, an arm has two runs of a seed,
        a value is infinite or not a number, or the arms share fewer than two seeds.
    """
    arm, seed = _column(table, "arm", arm), _column(table, "seed", seed)
    metric = _metric(table, metric, [arm, seed])
    names = table[arm].astype(str)
    arms = list(dict.fromkeys(names))
    if len(arms) != 2:
        raise InputError(f"column {arm} holds {len(arms)} arms ({', '.join(arms[:6])}): a verdict compares two")
    if first is not None and first not in arms:
        raise InputError(f"--first {first} is not an arm; there are {', '.join(arms)}")
    if first == arms[1]:
        arms.reverse()
    seeds = _seeds(table[seed])
    values = _numbers(table[metric], metric)
    found: list[dict[int, float]] = []
    for name in arms:
        own = (names == name).to_numpy()
        unique, counts = np.unique(seeds[own], return_counts=True)
        if (counts > 1).any():
            raise InputError(f"{name} has two runs of seed {unique[counts > 1][0]}; leave one per seed")
        found.append(dict(zip(seeds[own].tolist(), values[own].tolist(), strict=True)))
    shared = sorted(set(found[0]) & set(found[1]))
    if len(shared) < 2:
        raise InputError(
            f"{arms[0]} and {arms[1]} share {len(shared)} seeds: runs are compared in pairs of the same seed, because "
            "no interval for unpaired runs has been shown here to keep its level"
        )
    return Pairs(
        metric=metric,
        arms=(arms[0], arms[1]),
        seeds=shared,
        values=([found[0][s] for s in shared], [found[1][s] for s in shared]),
        alone=len(set(found[0]) ^ set(found[1])),
    )


def verdict_on(pairs: Pairs, margin: float, alpha: float, *, lower: bool = False) -> Estimate:
    """Supported if the first arm is better than the second by more than the margin, at a single look."""
    differences = pairs.differences(lower=lower)
    d = list(differences.values())
    failed = [[s for s, v in zip(pairs.seeds, values, strict=True) if np.isnan(v)] for values in pairs.values]
    made = Estimate(
        name="first against second",
        formula="first - second",
        metric=pairs.metric,
        seeds=list(differences),
        values=d,
        mean=float(np.mean(d)) if d else 0.0,
        sd=float(np.std(d, ddof=1)) if len(d) > 1 else 0.0,
        interval=Design((len(pairs.seeds),), alpha).interval(d, len(pairs.seeds), len(pairs.seeds) - len(d))
        if len(d) >= LEAST
        else None,
        state="undecided",
        left_out=[seed for seed in pairs.seeds if seed not in differences],
        sides=list(pairs.arms),
        failed=failed,
    )
    return ruled("difference", margin, made)


def _column(table: DataFrame, what: str, named: str | None) -> str:
    if named is not None:
        if named not in table.columns:
            raise InputError(f"there is no column {named}; there are {', '.join(map(str, table.columns[:20]))}")
        return named
    found = [name for name in NAMES[what] if name in table.columns]
    if not found:
        raise InputError(f"no column is called {' or '.join(NAMES[what])}: name the column of the {what} with --{what}")
    return found[0]


def _metric(table: DataFrame, named: str | None, taken: Sequence[str]) -> str:
    if named is not None:
        return _column(table, "metric", named)
    numbers = [str(name) for name in table.columns if name not in taken and table[name].dtype.kind == "f"]
    if len(numbers) != 1:
        known = ", ".join(numbers[:12] or map(str, table.columns[:12]))
        raise InputError(f"name the metric with --metric: {known}")
    return numbers[0]


def _seeds(column: Series) -> np.ndarray:
    numbers = _numbers(column, str(column.name))
    wrong = ~(np.isfinite(numbers) & (numbers == np.round(numbers)))
    if wrong.any():
        shown = f"{column[wrong].iloc[0]!r} in row {int(wrong.argmax()) + 1}"
        raise InputError(f"column {column.name}: {shown} is not a seed")
    return numbers.astype(np.int64)


def _numbers(column: Series, name: str) -> np.ndarray:
    """As numbers; empty is nan.

    Raises:
        InputError: a value is text, a boolean or infinite.
    """
    import pandas

    numbers = pandas.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    truths = column.map(lambda value: isinstance(value, bool | np.bool_)).to_numpy()
    text = np.isnan(numbers) & column.notna().to_numpy()
    for wrong, words in (
        (truths | text, "is not a number"),
        (np.isinf(numbers), "is infinite: leave it empty if the run failed"),
    ):
        if wrong.any():
            value = column[wrong].iloc[0]
            raise InputError(f"column {name}: {str(value)[:40]!r} in row {int(wrong.argmax()) + 1} {words}")
    return numbers
