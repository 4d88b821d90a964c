"""Would the verdict be another with another margin, or with fewer seeds? Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.verdict import Row, Verdict, judge

FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the margin that was fixed; of a ratio on the logarithmic scale
FIRST = 4  # fewest seeds that are looked at, then every second number


@dataclass(frozen=True)
class Look:
    """A finding judged otherwise than its file says.

    margin    in the metric's unit; of rule=ratio a factor; None: rule=exact has none
    seeds     the first ones, that many
    state     the verdict
    reason    in a clause
    would_be  what the intervals alone say, where too few seeds, an edge or a missing run leave it undecided
    decides   name of the contrast or bound that decides
    numbers   mean, low and high of that contrast, in its unit (of a ratio as factors); None: rule=exact
    """

    margin: float | None
    seeds: int
    state: str
    reason: str
    would_be: str
    decides: str
    numbers: tuple[float, float, float] | None

    @property
    def words(self) -> str:
        """The state, and what it would be if that differs."""
        return self.state if self.state == self.would_be else f"{self.state} (else {self.would_be})"


@dataclass(frozen=True)
class Sensitivity:
    """How a finding's verdict moves.

    margins  one look a factor of `FACTORS`, with all seeds; none for rule=exact
    seeds    with the first 4, 6, 8, … seeds up to all, by the margin that was fixed
    """

    finding: Finding
    margins: list[Look]
    seeds: list[Look]


@dataclass(frozen=True)
class Sheet:
    """A table as text."""

    title: str
    note: str
    header: list[str]
    rows: list[list[str]]


def sensitivity(finding: Finding, rows: Sequence[Row], planned: int, edges: Mapping[Cell, bool]) -> Sensitivity:
    """Judge a primary finding again and again.

    Args:
        finding: with the rule.
        rows: of the reporting runs that have a result.
        planned: seeds that each cell was to have.
        edges: cells whose tuned option is best at an end of the points.

    Raises:
        InputError: a run lacks the metric, or it diverged and nothing stands for that.
    """
    alone = finding.model_copy(update={"also": {}})  # which decide nothing
    margins = [] if finding.margin is None else [_scaled(finding, factor) for factor in FACTORS]
    seeds = sorted({int(row["seed"]) for row in rows})
    counts = sorted({*range(FIRST, planned, 2), planned})
    return Sensitivity(
        finding,
        [_look(alone.model_copy(update={"margin": margin}), rows, planned, edges) for margin in margins],
        [_look(alone, [row for row in rows if row["seed"] in seeds[:count]], count, edges) for count in counts],
    )


def by_margin(found: Sequence[Sensitivity]) -> Sheet:
    """A row a finding, a column a factor."""
    rows = [
        [
            *_named(each.finding),
            each.finding.rule,
            "none" if each.finding.margin is None else f"{each.finding.margin:g}",
            str(each.seeds[-1].seeds),
            *([look.words for look in each.margins] or [each.seeds[-1].words if f == 1 else "" for f in FACTORS]),
            each.seeds[-1].reason if each.seeds[-1].state != each.seeds[-1].would_be else "",
        ]
        for each in found
    ]
    header = ["claim", "finding", "rule", "margin", "seeds", *(f"x {factor:g}" for factor in FACTORS), "note"]
    return Sheet("By margin", "Of a ratio the logarithm of the margin is multiplied.", header, rows)


def by_seeds(found: Sequence[Sensitivity]) -> Sheet:
    """A row a finding and number of seeds."""
    rows = [
        [*_named(each.finding), str(look.seeds), look.words, look.decides, _shown(each.finding, look)]
        for each in found
        for look in each.seeds
    ]
    header = ["claim", "finding", "seeds", "verdict", "decided by", "mean and interval"]
    return Sheet("By seeds", "The first seeds of those that there are, at the margin that was fixed.", header, rows)


def _look(finding: Finding, rows: Sequence[Row], planned: int, edges: Mapping[Cell, bool]) -> Look:
    verdict = judge(finding, rows, planned, "", edges)
    return Look(
        margin=finding.margin,
        seeds=planned,
        state=verdict.state,
        reason=verdict.reason,
        would_be=_together([e.state for e in verdict.estimates]) if verdict.estimates else verdict.state,
        decides=verdict.decides,
        numbers=_numbers(verdict),
    )


def _together(states: Sequence[str]) -> str:
    """Of several contrasts: supported if each is, contradicted if one is."""
    if "contradicted" in states:
        return "contradicted"
    return "supported" if set(states) == {"supported"} else "undecided"


def _numbers(verdict: Verdict) -> tuple[float, float, float] | None:
    deciding = verdict.deciding
    if deciding is None:
        return None
    values = deciding.mean, deciding.interval.low, deciding.interval.high
    if verdict.rule != "ratio":
        return values
    mean, low, high = map(math.exp, values)
    return mean, low, high


def _scaled(finding: Finding, factor: float) -> float:
    assert finding.margin is not None
    return finding.margin**factor if finding.rule == "ratio" else finding.margin * factor


def _named(finding: Finding) -> list[str]:
    return [str(finding.claim), finding.name]


def _shown(finding: Finding, look: Look) -> str:
    if look.numbers is None:
        return ""
    form = "{:.4g} times [{:.4g}, {:.4g}]" if finding.rule == "ratio" else "{:+.4g} [{:+.4g}, {:+.4g}]"
    return form.format(*look.numbers)
