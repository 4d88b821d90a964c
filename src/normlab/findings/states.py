"""The state of one contrast, from its interval, the margin and the runs that failed. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import replace

from normlab.findings.verdict import Estimate, Reason

ALPHA = 0.05


def state_of(rule: str, margin: float, low: float, high: float) -> tuple[str, Reason]:
    """The state and its reason, from an interval and the margin (for a ratio, both as logarithms)."""
    if rule == "equivalence":
        if -margin < low and high < margin:
            return "supported", Reason.NONE
        apart = low > margin or high < -margin
        return ("contradicted", Reason.DIFFERENT) if apart else ("undecided", Reason.AT_MARGIN)
    if low > margin:
        return "supported", Reason.NONE
    if rule == "comparison" and high >= -margin and not (-margin < low and high < margin):
        return "undecided", Reason.AT_MARGIN
    if high >= margin:
        return "undecided", Reason.AT_MARGIN
    if high < -margin:
        return "contradicted", Reason.OPPOSITE
    return "contradicted", Reason.IRRELEVANT if low > -margin else Reason.TOO_SMALL


def ruled(rule: str, margin: float, estimate: Estimate) -> Estimate:
    """The contrast with its state and reason by the rule; for a ratio the margin is a logarithm."""
    interval, failures = estimate.interval, estimate.failures
    if failures is not None and failures.both_failed:
        state, kind = "undecided", Reason.BOTH_FAILED
    elif interval is None:
        state, kind = "undecided", Reason.FEW_PAIRS
    elif math.isinf(interval.low):
        known = estimate.seeds_alone is not None and math.isfinite(estimate.seeds_alone.low)
        state, kind = "undecided", Reason.ALIKE if known else Reason.NO_SPREAD
    else:
        state, kind = state_of(rule, margin, interval.low, interval.high)
        if unseen_side(rule, state, estimate) is not None:
            state, kind = "undecided", Reason.FAILURES
    return replace(estimate, state=state, kind=kind)


def unseen_side(rule: str, state: str, estimate: Estimate) -> int | None:
    """The side (0: favoured by the claim) whose failures contradict what the scores say; None: neither.

    Scores are compared on seeds without failed runs. If the side that they favour (for an equivalence: either)
    fails more often (the 95 % interval of the difference in failure rates excludes 0), the scores alone may not decide.
    """
    failures = estimate.failures
    if failures is None or state == "undecided" or not estimate.left_out:
        return None
    rates = failures.difference(ALPHA).interval
    worse = 0 if rates.low > 0 else 1 if rates.high < 0 else None
    if rule == "equivalence":
        return worse if state == "supported" else None
    return worse if worse == (0 if state == "supported" else 1) else None
