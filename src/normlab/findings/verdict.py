"""A finding's verdict at a scale, as data: states and reasons are enumerations; `wording` makes sentences of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from normlab.findings.scope import Scope
from normlab.stats.paired import Interval
from normlab.stats.rates import Failures

Row = Mapping[str, Any]  # arm, condition, point, seed, id, diverged, and the summary's columns


class Reason(StrEnum):
    """Why a verdict or an estimate has its state; the verdict's `facts` fill in the sentence."""

    NONE = ""  # decided by the interval alone
    # contradicted
    OPPOSITE = "opposite"
    IRRELEVANT = "no_relevant_difference"
    TOO_SMALL = "too_small"
    DIFFERENT = "different"  # for rule=equivalence
    # rule=exact
    BOUNDS_HOLD = "bounds_hold"  # count
    BOUNDS_BROKEN = "bounds_broken"  # broken, count
    # rule with at_least: supported, contradicted, count, at_least
    ENOUGH = "enough"
    NOT_ENOUGH = "not_enough"
    COUNT_OPEN = "count_open"
    # undecided by the numbers
    AT_MARGIN = "interval_includes_margin"
    BOTH_FAILED = "both_failed"  # most runs of both sides of the contrast diverged or are at chance
    FEW_PAIRS = "few_pairs"  # contrast, left, least: too few seeds on which no run failed
    FAILURES = "failures"  # contrast, side: it failed more often, although its scores are better or equal
    KEPT = "kept"  # n: the planned looks had been used up, so the first verdict is kept
    NO_SPREAD = "no_spread"  # equal differences, which give no interval
    ALIKE = "alike"  # contrast, examples: the arms differ on too few test examples for an interval over them
    # undecided whatever the numbers are
    NO_RUNS = "no_runs"
    NO_SHARED_SEEDS = "no_shared_seeds"
    INCOMPLETE = "incomplete"  # cell, n, planned
    TOO_FEW_SEEDS = "too_few_seeds"  # planned, least
    EDGE = "edge"  # cell, point
    RECIPE = "recipe"  # seeds: the recipe was chosen on them, and they are among those reported
    UNUSABLE = "unusable"  # problem: the runs could not be judged


NOT_JUDGED = frozenset(
    {
        *(Reason.NO_RUNS, Reason.NO_SHARED_SEEDS, Reason.INCOMPLETE, Reason.TOO_FEW_SEEDS, Reason.EDGE),
        *(Reason.RECIPE, Reason.UNUSABLE),
    }
)
STATES = ("supported", "contradicted", "undecided", "estimate")


@dataclass(frozen=True)
class Estimate:
    """A contrast over the seeds that all its cells have and on which no run failed.

    Signed so that positive favours the claim.

    seeds     of the values, in order
    interval  valid for all the finding's looks together; None: too few seeds for one, or both sides failed. If all
              values are equal, its limits are infinite, because that proves nothing.
    left_out  seeds on which a run failed (diverged or is at chance); they are in neither values nor interval
    sides     what the contrast compares: the cells that the claim favours, and the others
    failed    for each side, the seeds on which one of its runs failed
    mean_of_all  over all seeds, with the finding's `diverged_value` for runs that diverged; None: no run failed
    scope     what the interval counts the error of
    examples  of the test, where the scope names any
    example_error  standard error of the mean over examples
    seeds_alone    where the interval counts both errors: that over seeds alone, at the same level
    ratio     values, mean, sd and interval are natural logarithms of factors
    state     supported, contradicted, undecided; for an exploratory finding: estimate
    kind      the reason
    """

    name: str
    formula: str
    metric: str
    seeds: list[int]
    values: list[float]
    mean: float
    sd: float
    interval: Interval | None
    state: str
    kind: Reason = Reason.NONE
    ratio: bool = False
    left_out: list[int] = field(default_factory=list)
    sides: list[str] = field(default_factory=list)
    failed: list[list[int]] = field(default_factory=list)
    mean_of_all: float | None = None
    scope: Scope = Scope.SEEDS
    examples: int = 0
    example_error: float | None = None
    seeds_alone: Interval | None = None

    @classmethod
    def blank(cls, name: str, formula: str, metric: str, sides: Sequence[str], *, ratio: bool = False) -> Estimate:
        """Without numbers yet."""
        numbers: dict[str, Any] = {"seeds": [], "values": [], "mean": 0.0, "sd": 0.0, "interval": None}
        return cls(name, formula, metric, **numbers, state="estimate", sides=list(sides), ratio=ratio)

    @property
    def all_seeds(self) -> list[int]:
        """The seeds of the values, and those left out."""
        return sorted([*self.seeds, *self.left_out])

    @property
    def failures(self) -> Failures | None:
        """Which runs of the two sides failed; None if the stored file doesn't say."""
        if len(self.failed) != 2 or not self.all_seeds:
            return None
        first, second = (tuple(seed in side for seed in self.all_seeds) for side in self.failed)
        return Failures(first, second)


@dataclass(frozen=True)
class Bound:
    """For rule=exact: the range of a metric over a cell's runs, and the bounds that it must keep (None: no bound)."""

    cell: str
    metric: str
    low: float
    high: float
    least: float | None
    most: float | None

    @property
    def holds(self) -> bool:
        """Does every run keep the bounds?"""
        return (self.least is None or self.low >= self.least) and (self.most is None or self.high <= self.most)


@dataclass(frozen=True)
class ArmSummary:
    """A cell's runs in numbers, in the metric's own unit.

    point   the tuned option's value; None if nothing is tuned
    edge    the best point is at an end of the grid
    metrics means of all the finding's metrics
    """

    cell: str
    n: int
    mean: float | None
    sd: float | None
    diverged: int
    point: float | None
    edge: bool
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """A finding's verdict at a scale.

    state   supported, contradicted, undecided, or for exploratory findings estimate
    reason  why; its facts are in `facts`
    decides the contrast that decides, or the bound, named by cell and metric
    bounds  for rule=exact: each bound with the observed range
    looks   numbers of seeds at which the finding may be decided, planned in advance; the last is the cap. Empty: too
            few seeds are planned for any interval, or the rule has none
    needed  seeds that a single look would need for 80 % power, from the upper bound on the spread
    first   the verdict before the study was extended, if it was
    """

    finding: str
    claim: int | None
    primary: bool
    title: str
    scale: str
    rule: str
    margin: float | None
    level: float
    state: str
    reason: Reason
    facts: dict[str, Any] = field(default_factory=dict)
    decides: str = ""
    estimates: list[Estimate] = field(default_factory=list)
    also: list[Estimate] = field(default_factory=list)
    arms: list[ArmSummary] = field(default_factory=list)
    bounds: list[Bound] = field(default_factory=list)
    looks: list[int] = field(default_factory=list)
    needed: int | None = None
    first: dict[str, Any] | None = None

    @property
    def deciding(self) -> Estimate | None:
        """The contrast that decides."""
        return next((e for e in self.estimates if e.name == self.decides), None)
