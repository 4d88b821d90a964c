"""What a verdict on anybody's runs says of their number, their difference and their failures."""

from __future__ import annotations

from dataclasses import replace

from normlab.findings.verdict import Estimate
from normlab.findings.wording import estimate_words
from normlab.logs.own_runs import Arms


def rates_said(arms: Arms) -> list[str]:
    """How many runs of each arm failed; nothing if none did."""
    rates = arms.failures()
    if not any(rates.counts):
        return []
    counts = zip(rates.counts, rates.n, arms.names, strict=True)
    parts = " and ".join(f"{count} of {n} runs of {name}" for count, n, name in counts)
    low, high = rates.interval.low, rates.interval.high
    return [f"{parts} failed, and the scores are those of the others; rates differ by {low:+.0%} to {high:+.0%} (95 %)"]


def scored(arms: Arms, made: Estimate) -> bool:
    """Whether there are scores to compare: a run of each arm, or one pair, that didn't fail."""
    return bool(made.seeds) if arms.paired else all(arms.finished())


def numbers_said(arms: Arms, made: Estimate) -> str:
    """In the metric's own unit: whether an accuracy is a share of 1 or of 100 is not known here."""
    if not scored(arms, made):
        return "nothing to compare"
    return estimate_words(replace(made, metric=""), 4)


def runs_said(arms: Arms, made: Estimate) -> str:
    """The number of pairs, or of runs of each arm."""
    if arms.paired:
        return str(len(made.seeds))
    first, second = arms.finished()
    return f"{len(first)} and {len(second)} runs"
