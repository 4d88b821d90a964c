"""Would the verdict differ with another margin, or with fewer seeds? Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from normlab.findings.examples import Scores
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.judge import judge
from normlab.findings.verdict import Estimate, Reason, Row
from normlab.findings.wording import estimate_words, margin_words, reason_words

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # times the finding's margin; for a ratio, times its logarithm
FIRST = 8  # the fewest seeds with an interval, then every second number


@dataclass(frozen=True)
class Variation:
    """A finding judged with another margin or number of seeds than its file says.

    margin    in the metric's unit; of rule=ratio a factor; None: rule=exact has none
    seeds     how many, from the first
    state     the verdict
    reason    why
    words     the reason in a clause
    would_be  what the intervals alone say, if too few seeds, an edge or a missing run leave it undecided
    deciding  the contrast that decides; None: rule=exact
    """

    margin: float | None
    seeds: int
    state: str
    reason: Reason
    words: str
    would_be: str
    deciding: Estimate | None

    @property
    def state_words(self) -> str:
        """The state, and what it would be by the intervals alone if that differs."""
        return self.state if self.state == self.would_be else f"{self.state} (otherwise {self.would_be})"


@dataclass(frozen=True)
class Sensitivity:
    """How a finding's verdict changes.

    margins  one for each factor of `FACTORS`, with all seeds; none for rule=exact
    seeds    with the first 8, 10, 12, … up to all seeds, at the finding's margin
    """

    finding: Finding
    margins: list[Variation]
    seeds: list[Variation]


@dataclass(frozen=True)
class Sheet:
    """A table as text."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def sensitivity(
    finding: Finding,
    rows: Sequence[Row],
    planned: int,
    edges: Mapping[Cell, bool],
    scores: Scores = MappingProxyType({}),
) -> Sensitivity:
    """Judge a primary finding at every margin and number of seeds.

    Args:
        finding: with the rule.
        rows: of the reporting runs that have a result.
        planned: number of seeds that each cell should have.
        edges: whether a cell's tuned option is best at an end of its grid.
        scores: run → its score on each example.

    Raises:
        InputError: a run lacks the metric, or it diverged and the finding has no value for that.
    """
    alone = finding.model_copy(update={"also": {}})  # which decide nothing
    margins = [] if finding.margin is None else [_scaled(finding, factor) for factor in FACTORS]
    seeds = sorted({int(row["seed"]) for row in rows})
    counts = sorted({*range(FIRST, planned, 2), planned})  # each as if it were the only look
    return Sensitivity(
        finding,
        [_varied(alone.model_copy(update={"margin": margin}), rows, planned, edges, scores) for margin in margins],
        [
            _varied(alone, [row for row in rows if row["seed"] in seeds[:count]], count, edges, scores)
            for count in counts
        ],
    )


def by_margin(found: Sequence[Sensitivity]) -> Sheet:
    """One row per finding, one column per factor."""
    rows = [
        [
            *_named(each.finding),
            each.finding.rule,
            margin_words(each.finding, each.finding.metric) or "none",
            str(each.seeds[-1].seeds),
            *_by_factor(each),
            each.seeds[-1].words if each.seeds[-1].state != each.seeds[-1].would_be else "",
        ]
        for each in found
    ]
    header = ["claim", "finding", "rule", "margin", "seeds", *(f"x {factor:g}" for factor in FACTORS), "note"]
    return Sheet("By margin", "For a ratio, the logarithm of the margin is multiplied.", header, rows)


def by_seeds(found: Sequence[Sensitivity]) -> Sheet:
    """One row per finding and number of seeds."""
    rows = [
        [*_named(each.finding), str(one.seeds), one.state_words, *_deciding(one)]
        for each in found
        for one in each.seeds
    ]
    header = ["claim", "finding", "seeds", "verdict", "decided by", "mean and interval"]
    return Sheet("By seeds", "The first n of the available seeds, at the margin fixed in advance.", header, rows)


def _by_factor(each: Sensitivity) -> list[str]:
    """States by factor; for rule=exact, which has no margin, the verdict is in the column of factor 1."""
    alone = each.seeds[-1].state_words
    return [one.state_words for one in each.margins] or [alone if factor == 1 else "" for factor in FACTORS]


def _varied(
    finding: Finding, rows: Sequence[Row], planned: int, edges: Mapping[Cell, bool], scores: Scores
) -> Variation:
    verdict = judge(finding, rows, planned, "", edges, scores=scores)
    return Variation(
        margin=finding.margin,
        seeds=planned,
        state=verdict.state,
        reason=verdict.reason,
        words=reason_words(verdict),
        would_be=_together([e.state for e in verdict.estimates]) if verdict.estimates else verdict.state,
        deciding=verdict.deciding,
    )


def _together(states: Sequence[str]) -> str:
    """The state of several contrasts together: supported if each is, contradicted if one is."""
    if "contradicted" in states:
        return "contradicted"
    return "supported" if set(states) == {"supported"} else "undecided"


def _scaled(finding: Finding, factor: float) -> float:
    assert finding.margin is not None
    return finding.margin**factor if finding.rule == "ratio" else finding.margin * factor


def _named(finding: Finding) -> list[str]:
    return [str(finding.claim), finding.name]


def _deciding(one: Variation) -> tuple[str, str]:
    return (one.deciding.name, estimate_words(one.deciding, 4)) if one.deciding else ("", "")
