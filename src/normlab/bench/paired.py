"""Paired ratios of times: two calls alternate in one process, so that what slows the machine slows both.

One thread is timed by its own CPU time, which other programs change less; several by the clock on the wall.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

Call = Callable[[], object]
Clock = Callable[[], float]


class Effort(NamedTuple):
    """How much is timed.

    rounds   pairs of blocks, one block of each call
    seconds  that a block takes, about
    clock    of the blocks
    """

    rounds: int
    seconds: float
    clock: Clock = time.perf_counter


def ratio(ours: Call, theirs: Call, effort: Effort) -> float:
    """The median over the rounds of ours / theirs. The order within a pair alternates."""
    for call in (ours, theirs, ours, theirs):
        call()
    once = min(block(theirs, 1, effort.clock) for _ in range(5))
    calls = max(1, round(effort.seconds / max(once, 1e-7)))
    found = []
    for i in range(effort.rounds):
        if i % 2:
            second, first = block(theirs, calls, effort.clock), block(ours, calls, effort.clock)
        else:
            first, second = block(ours, calls, effort.clock), block(theirs, calls, effort.clock)
        found.append(first / second)
    return median(found)


def block(call: Call, times: int, clock: Clock) -> float:
    """Seconds for so many calls."""
    start = clock()
    for _ in range(times):
        call()
    return clock() - start
