"""Which columns are the arm, the seed and the metric, and the runs of the two arms by seed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from normlab.config.schema import InputError
from normlab.logs.read_rows import Places, read_seeds, read_values
from normlab.logs.run import UNSEEN, Runs
from normlab.logs.unfinished import unfinished

if TYPE_CHECKING:
    pass

ARM = ("arm", "norm", "method", "model", "variant", "optimizer", "group", "name")
SEED = ("seed", "random_seed", "run_seed")
_AT = {"last": "its last value", "max": "its maximum", "min": "its minimum"}


@dataclass(frozen=True)
class Asked:
    """What the user named; None: to be found.

    arms      two of the arms, the one that is claimed to be better first
    at        which value of a curve counts: last, max or min
    failed    runs that never logged the metric, or in which it is infinite, count as failed
    unpaired  the seeds are not compared, and need not be there
    """

    arm: str | None = None
    seed: str | None = None
    metric: str | None = None
    arms: tuple[str, str] | None = None
    at: str = "last"
    failed: bool = False
    unpaired: bool = False


@dataclass(frozen=True)
class Found:
    """The runs of two arms.

    arms   the first is claimed to be better
    runs   of each arm, seed → value; nan: it failed. Without seeds: numbered over both arms, so that none is shared
    said   how arm, seed and metric were found, in lines for the user
    others the arms that are not compared
    """

    metric: str
    arms: tuple[str, str]
    runs: tuple[dict[int, float], dict[int, float]]
    said: list[str]
    others: tuple[str, ...] = ()


def find(sources: Sequence[Runs], asked: Asked) -> Found:
    """Of all FILEs together.

    Raises:
        InputError: a column is missing or not unique, there are not two arms, an arm has two runs of a seed, or a value
            is not a number.
    """
    places = Places(sources)
    metric, metric_words = _metric(sources, asked)
    arm, arms, names = _arm(sources, asked, places)
    seed = _seed(sources, asked)
    if metric in (arm, seed):
        raise InputError(f"{metric} is the {'arm' if metric == arm else 'seed'}, and can't be the metric as well")
    used = (names == arms[0]) | (names == arms[1])  # what other rows hold doesn't matter
    seeds = np.arange(len(names)) if seed is None else read_seeds(_joined(sources, seed), seed, places, used)
    columns = [source.values(metric, asked.at) for source in sources]
    values = read_values(columns, metric, places, used, failed=asked.failed)
    found: list[dict[int, float]] = []
    for name in arms:
        own = np.flatnonzero(names == name)
        unique, counts = np.unique(seeds[own], return_counts=True)
        if (counts > 1).any():
            twice = unique[counts > 1][0]
            one, two = own[seeds[own] == twice][:2]
            raise InputError(
                f"{name} has two runs of seed {twice}, and which counts is not known: {places[one]} and {places[two]}"
            )
        found.append(dict(zip(seeds[own].tolist(), values[own].tolist(), strict=True)))
    key = " or ".join(dict.fromkeys(source.key for source in sources))
    arm_words = "the names of the files" if arm is None else f"{key} `{arm}`"
    said = [f"arm from {arm_words}, {f'seed from `{seed}`' if seed else 'no seeds'}, metric {metric_words}"]
    said += filter(None, [unfinished(sources, used)])
    ends = sorted({step for source in sources for step in source.ends(metric)})
    if asked.at == "last" and len(ends) > 1:
        said.append(
            f"the last values were logged at different steps, {ends[0]:g} to {ends[-1]:g}: are all runs finished?"
        )
    others = tuple(name for name in dict.fromkeys(names.tolist()) if name not in arms)
    return Found(metric, arms, (found[0], found[1]), said, others)


def _metric(sources: Sequence[Runs], asked: Asked) -> tuple[str, str]:
    metric = asked.metric
    if metric is None:
        taken = {asked.arm, asked.seed, *SEED, *ARM}
        shared = [name for name in sources[0].metrics() if name not in taken]
        shared = [name for name in shared if all(name in source.metrics() for source in sources[1:])]
        if not shared:  # the only column that is left; its first value that is not a number is named later
            every = [name for name in sources[0].columns() if name not in {*taken, *UNSEEN}]
            shared = every if len(every) == 1 and all(every[0] in source.columns() for source in sources[1:]) else []
        if len(shared) != 1:
            logged = {name: None for source in sources for name in source.metrics()}
            if len(sources) > 1 and not shared and all(source.metrics() for source in sources):
                each = "; ".join(f"{source.file}: {_some(source.metrics(), 6)}" for source in sources[:3])
                raise InputError(f"the files have no metric in common ({each}): rename one, as a metric has one name")
            found = shared or logged or [name for name in sources[0].columns() if name not in taken]
            raise InputError(f"name the metric with --metric: {_some(found or sources[0].columns())}")
        metric = shared[0]
    for source in sources:
        if metric not in source.columns():
            raise InputError(f"{source.file} has no metric {metric}; {_closest(metric, source.columns())}")
    curve = any(source.ends(metric) for source in sources)
    return metric, f"`{metric}`{f' at {_AT[asked.at]}' if curve else ''}"


def _arm(sources: Sequence[Runs], asked: Asked, places: Places) -> tuple[str | None, tuple[str, str], np.ndarray]:
    """The column, the two arms, and the arm of every row."""
    if asked.arm is not None:
        column: str | None = asked.arm
        names = _texts(sources, asked.arm, places)
    else:
        column, names = _found_arm(sources, places)
    known = list(dict.fromkeys(names.tolist()))
    called = "the names of the files" if column is None else f"`{column}`"
    if asked.arms is not None:
        if asked.arms[0] == asked.arms[1]:
            raise InputError(f"--arms: {asked.arms[0]} can't be compared with itself; {called} has {_some(known)}")
        for arm in asked.arms:
            if arm not in known:
                raise InputError(f"--arms: {called} has no {arm}; {_closest(arm, known)}")
        return column, asked.arms, names
    if len(known) != 2:
        few = "name the arms' column with --arm" if len(known) < 2 else "choose two with --arms FIRST SECOND"
        raise InputError(f"{called} holds {_count(known)} ({_some(known, 6)}), and a verdict compares two: {few}")
    return column, (known[0], known[1]), names


def _found_arm(sources: Sequence[Runs], places: Places) -> tuple[str | None, np.ndarray]:
    """The column of the usual names that distinguishes two arms; of two FILEs with an arm each, their names."""
    there = [name for name in ARM if all(name in source.facts.columns for source in sources)]
    usual = {name: _texts(sources, name, places) for name in there if not _gaps(sources, name)}
    two = {name: texts for name, texts in usual.items() if len(set(texts.tolist())) == 2}
    if two:
        first = next(iter(two))
        for name, texts in two.items():
            if _parts(texts) != _parts(two[first]):
                raise InputError(f"both `{first}` and `{name}` distinguish two arms: choose with --arm")
        return first, two[first]
    if len(sources) == 2:
        names = [source.file for source in sources]
        return None, np.repeat(np.array(names, dtype=object), [len(source.facts) for source in sources])
    if usual:
        name = max(usual, key=lambda name: len(set(usual[name].tolist())) > 1)
        return name, usual[name]
    if there:  # in some rows only, of which the first is named
        return there[0], _texts(sources, there[0], places)
    has = _some([name for name in sources[0].facts.columns if name not in SEED])
    raise InputError(
        f"no {sources[0].key} is called {', '.join(ARM)}: name that of the arm with --arm; there are {has}"
    )


def _parts(texts: np.ndarray) -> bytes:
    return bytes((texts == texts[0]).tolist())


def _gaps(sources: Sequence[Runs], name: str) -> bool:
    return any(bool(source.facts[name].isna().any()) for source in sources)


def _texts(sources: Sequence[Runs], name: str, places: Places) -> np.ndarray:
    """An arm's name for every row."""
    column = _joined(sources, name)
    empty = np.array([value is None or value != value for value in column], dtype=bool)
    if empty.any():
        raise InputError(f"{places[int(empty.argmax())]} has no `{name}`, so that its arm is not known")
    return np.array([str(value) for value in column], dtype=object)


def _joined(sources: Sequence[Runs], name: str) -> list[Any]:
    for source in sources:
        if name not in source.facts.columns:
            has = _closest(name, list(source.facts.columns))
            raise InputError(f"{source.file}: there is no {source.key} {name}; {has}")
    return [value for source in sources for value in source.facts[name].tolist()]


def _seed(sources: Sequence[Runs], asked: Asked) -> str | None:
    if asked.seed is not None:
        return asked.seed
    common = [name for name in sources[0].facts.columns if all(name in s.facts.columns for s in sources)]
    usual = [name for name in SEED if name in common]
    nested = [name for name in common if name.rpartition(".")[2] in SEED]
    if usual or len(nested) == 1:
        return (usual or nested)[0]
    if asked.unpaired:
        return None
    if nested:
        raise InputError(f"several may be the seed ({_some(nested)}): choose with --seed")
    raise InputError(
        f"no {sources[0].key} is called {', '.join(SEED)}: name that of the seed with --seed, or compare the arms "
        "without pairs by --unpaired"
    )


def _closest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, list(names), 4, 0.5)
    return f"the closest are {_some(near)}" if near and len(names) > 8 else f"there are {_some(names)}"


def _some(names: Iterable[str], most: int = 12) -> str:
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f", … ({len(names)} in all)" if len(names) > most else "") or "none"


def _count(arms: Sequence[str]) -> str:
    return f"{len(arms)} arm{'s' * (len(arms) != 1)}"
