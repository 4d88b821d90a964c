"""Compares times: short blocks of each arm, alternating, in one process. Imports no torch."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

AGAINST = "_against"  # suffix for the second norm's values
WARM_UP = 2  # first blocks of each arm that are dropped: caches, memory pools, compilation

Part = Callable[[int], None]  # does the i-th step of a block, or a part of it
Times = list[list[float]]  # for each block: seconds per step of each part


def interleaved(
    arms: Mapping[str, Sequence[Part]],
    *,
    steps: int,
    blocks: int,
    seed: int,
    clock: Callable[[], float] = time.perf_counter,
    settle: Callable[[], None] = lambda: None,
) -> dict[str, Times]:
    """Times of all arms, in rounds of one block per arm, in a new random order each round.

    So a disturbance that is longer than a block affects all arms equally, and no arm always runs first.

    Args:
        arms: the parts of a step, by the arm's name.
        steps: steps of a block; each step's parts get its number.
        blocks: blocks of each arm that are kept.
        seed: of the order.
        clock: seconds.
        settle: waits until all requested work is done, as on a GPU.
    """
    order, draw = list(arms), random.Random(seed)
    times: dict[str, Times] = {name: [] for name in arms}
    with _no_collection():
        for _ in range(WARM_UP + blocks):
            draw.shuffle(order)
            for name in order:
                times[name].append(_block(arms[name], steps, clock, settle))
    return {name: kept[WARM_UP:] for name, kept in times.items()}


def _block(parts: Sequence[Part], steps: int, clock: Callable[[], float], settle: Callable[[], None]) -> list[float]:
    spent = [0.0] * len(parts)
    settle()
    before = clock()
    for i in range(steps):
        for number, part in enumerate(parts):
            part(i)
            now = clock()
            spent[number] += now - before
            before = now
    settle()
    spent[-1] += clock() - before
    return [seconds / steps for seconds in spent]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause Python's garbage collector, which would slow down single blocks."""
    on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def totals(blocks: Times) -> list[float]:
    """Milliseconds per step of each block, all parts together."""
    return [1000 * sum(parts) for parts in blocks]


def compared(times: Mapping[str, Times], what: str) -> dict[str, float]:
    """The summary's entries for the times of a norm, `""`, and of a second one, `"_against"`, if there is one.

    `<what>_ms`, `<what>_ms_against` are medians over the blocks, `…_ms_min…` minima. `<what>_ratio` is the median over
    the rounds of norm / against, each from two consecutive blocks: it is unaffected by a slow-down that is longer
    than a round, and as a median also by those of single blocks.
    """
    values = {suffix: totals(blocks) for suffix, blocks in times.items()}
    summary = {f"{what}_ms{suffix}": median(found) for suffix, found in values.items()}
    summary |= {f"{what}_ms_min{suffix}": min(found) for suffix, found in values.items()}
    if AGAINST in values:
        summary[f"{what}_ratio"] = ratio(times[""], times[AGAINST])
    return summary


def ratio(times: Times, against: Times) -> float:
    """The median over the rounds of the ratio within each round."""
    return median(one / other for one, other in zip(totals(times), totals(against), strict=True))


def rows(times: Mapping[str, Times], what: str) -> list[dict[str, float]]:
    """Milliseconds per step of every block, `block/<what>_ms…`: one row per round."""
    columns = {f"block/{what}_ms{suffix}": totals(blocks) for suffix, blocks in times.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
