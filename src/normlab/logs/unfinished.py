"""Runs that had not finished when they were read, by what their logger says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from normlab.logs.run import Runs

_COLUMNS = ("state", "status")  # in any case: W&B's exports write State
_UNFINISHED = {
    *("running", "crashed", "killed", "failed", "preempted", "preempting", "pending", "scheduled", "queued"),
    *("interrupted", "stopped", "paused", "aborted"),
}


def unfinished(sources: Sequence[Runs], rows: np.ndarray) -> str | None:
    """A line about the runs that had not finished, whose last value may be an early one; None: all had.

    Args:
        sources: the FILEs.
        rows: bool [runs of all FILEs], those that are compared.
    """
    states = [state for source in sources for state in _states(source)]
    found = Counter(state for state, compared in zip(states, rows.tolist(), strict=True) if compared and state)
    if not found:
        return None
    kinds = ", ".join(f"{count} {state}" for state, count in sorted(found.items()))
    runs = f"{found.total()} run{'s' * (found.total() > 1)}"
    return f"{runs} had not finished ({kinds}), and count with the values that they have: leave them out, or wait"


def _states(source: Runs) -> list[str]:
    """Of every run: how it is unfinished, or nothing."""
    name = next((name for name in source.facts.columns if name.lower() in _COLUMNS), None)
    if name is None:
        return [""] * len(source.facts)
    words = [str(value).strip().lower() for value in source.facts[name].tolist()]
    return [word if word in _UNFINISHED else "" for word in words]
