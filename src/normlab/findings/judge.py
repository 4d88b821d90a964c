"""The rule: from a finding's numbers to its verdict, as its YAML fixed it before there were data. Imports no torch.

`judge` is the order in which reasons are looked at; `state_of` holds an interval against the margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from normlab.findings.estimates import (
    both_failed,
    bounds_of,
    contrasts_of,
    further_of,
    margin_of,
    summary_of,
)
from normlab.findings.finding import LEAST, Finding
from normlab.findings.formula import Cell, parse
from normlab.findings.verdict import ArmSummary, Bound, Estimate, Reason, Row, Verdict
from normlab.stats.families import holm
from normlab.stats.paired import margin_p
from normlab.stats.power import MOST, seeds_for_equivalence, seeds_needed

PRIMARIES = 6  # the family: each primary's interval is at 0.05 / 6, alone or not
ALPHA = 0.05


class Said(NamedTuple):
    """A state, why, and by which contrast."""

    state: str
    reason: Reason = Reason.NONE
    facts: Mapping[str, Any] = MappingProxyType({})
    decides: str = ""


def judge(finding: Finding, rows: Sequence[Row], planned: int, scale: str, edges: Mapping[Cell, bool]) -> Verdict:
    """Apply the rule.

    Args:
        finding: with the rule.
        rows: of the reporting runs that have a result.
        planned: seeds that each cell was to have.
        scale: where the runs come from.
        edges: cells whose tuned option is best at an end of the points.

    Raises:
        InputError: a run lacks the metric, or it diverged and nothing stands for that, or a cell has two runs of a
            seed.
    """
    alpha = ALPHA / PRIMARIES if finding.primary else ALPHA
    arms = [summary_of(finding, cell, rows, edge=bool(edges.get(cell, False))) for cell in finding.cells]
    contrasts = [] if finding.rule == "exact" else contrasts_of(finding, rows, alpha)
    ruled = [_judged(finding, estimate, rows) for estimate in contrasts]
    bounds = bounds_of(finding, rows)
    said = _by_bounds(bounds) if finding.rule == "exact" else _by_contrasts(finding, ruled)
    hindered = _hindered(finding, arms, planned)
    if hindered is not None:
        said = hindered._replace(decides=said.decides)
    elif not finding.primary:
        said = said._replace(state="estimate") if finding.rule == "exact" else Said("estimate", decides=said.decides)
    return replace(
        undecided(finding, scale, said.reason, **said.facts),
        state=said.state,
        decides=said.decides,
        estimates=ruled if finding.primary else [_only_estimated(estimate) for estimate in ruled],
        also=further_of(finding, rows, ALPHA),
        arms=arms,
        bounds=bounds,
        needed=max((_needed(finding, e, alpha) for e in ruled), default=None),
    )


def undecided(finding: Finding, scale: str, reason: Reason, **facts: Any) -> Verdict:
    """The verdict where the rule can't be applied to what the runs gave."""
    return Verdict(
        finding=finding.name,
        claim=finding.claim,
        primary=finding.primary,
        title=finding.title,
        scale=scale,
        rule=finding.rule,
        margin=finding.margin,
        level=1 - ALPHA / PRIMARIES if finding.primary else 1 - ALPHA,
        state="undecided",
        reason=reason,
        facts=facts,
    )


def family_p(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Holm's p of each primary's own hypothesis, that its contrasts lie beyond the margin, in the family of six.

    It depends on all of them, so it is worked out from those that stand now and kept with none. What has no p counts
    as 1, which is never to its favour. Only of a verdict that its own hypothesis decides: contradicted or hindered,
    a claim has none.
    """
    known = {v.finding: v.margin_p for v in verdicts if v.primary}
    p = [value for value in known.values() if value is not None]
    adjusted = iter(holm([*p, *[1.0] * (PRIMARIES - len(p))]))
    found = {name: next(adjusted) for name, value in known.items() if value is not None}
    shown = {v.finding for v in verdicts if v.state == "supported" or v.reason is Reason.AT_MARGIN}
    return {name: value for name, value in found.items() if name in shown}


def state_of(rule: str, margin: float, low: float, high: float) -> tuple[str, Reason]:
    """State and why, of an interval against the margin (of a ratio: both in logarithms)."""
    if rule == "equivalence":
        if -margin < low and high < margin:
            return "supported", Reason.NONE
        apart = low > margin or high < -margin
        return ("contradicted", Reason.DIFFERENT) if apart else ("undecided", Reason.AT_MARGIN)
    if low > margin:
        return "supported", Reason.NONE
    if high >= margin:
        return "undecided", Reason.AT_MARGIN
    if high < -margin:
        return "contradicted", Reason.OPPOSITE
    return "contradicted", Reason.IRRELEVANT if low > -margin else Reason.TOO_SMALL


def _judged(finding: Finding, estimate: Estimate, rows: Sequence[Row]) -> Estimate:
    """A contrast with what the rule says of it."""
    margin = margin_of(finding)
    state, kind = state_of(finding.rule, margin, estimate.interval.low, estimate.interval.high)
    if both_failed(finding, parse(estimate.formula), rows):
        state, kind = "undecided", Reason.BOTH_FAILED
    elif estimate.sd == 0 and abs(estimate.mean) <= margin:
        state, kind = "undecided", Reason.NO_SPREAD  # equal pairs have an interval of no width, which proves nothing
    p = margin_p(estimate.values, margin, within=finding.rule == "equivalence") if estimate.sd > 0 else None
    return replace(estimate, state=state, kind=kind, margin_p=p)


def _only_estimated(estimate: Estimate) -> Estimate:
    """Of an exploratory finding: no verdict, only what spoils it as evidence."""
    spoilt = estimate.kind in (Reason.BOTH_FAILED, Reason.NO_SPREAD)
    return replace(estimate, state="estimate", kind=estimate.kind if spoilt else Reason.NONE, margin_p=None)


def _hindered(finding: Finding, arms: Sequence[ArmSummary], planned: int) -> Said | None:
    """What keeps the runs from deciding anything, whatever their numbers say."""
    short = next((arm for arm in arms if arm.n < planned), None)
    if short is not None:
        return Said("undecided", Reason.INCOMPLETE, {"cell": short.cell, "n": short.n, "planned": planned})
    if finding.primary and planned < LEAST[finding.seeds]:
        return Said("undecided", Reason.TOO_FEW_SEEDS, {"planned": planned, "least": LEAST[finding.seeds]})
    edge = next((arm for arm in arms if arm.edge), None)
    if finding.primary and edge is not None:
        return Said("undecided", Reason.EDGE, {"cell": edge.cell, "point": edge.point})
    return None


def _by_bounds(bounds: Sequence[Bound]) -> Said:
    if not bounds:
        return Said("undecided", Reason.NO_RUNS)
    broken = [bound for bound in bounds if not bound.holds]
    decides = f"{(broken or bounds)[0].cell}: {(broken or bounds)[0].metric}"
    if broken:
        facts = {"broken": len(broken), "count": len(bounds)}
        return Said("contradicted", Reason.BOUNDS_BROKEN, facts, decides)
    return Said("supported", Reason.BOUNDS_HOLD, {"count": len(bounds)}, decides)


def _by_contrasts(finding: Finding, estimates: Sequence[Estimate]) -> Said:
    """All contrasts together: supported if each is, contradicted if one is."""
    if not estimates:
        return Said("undecided", Reason.NO_SHARED_SEEDS)
    margin = margin_of(finding)

    def room(e: Estimate) -> float:
        if finding.rule == "equivalence":
            return min(margin - e.interval.high, margin + e.interval.low)
        return e.interval.low - margin

    against = [e for e in estimates if e.state == "contradicted"]
    spoilt = [e for e in estimates if e.state == "undecided" and e.kind is not Reason.AT_MARGIN]
    worst = min(against or spoilt or estimates, key=room)
    if against or spoilt:
        return Said(worst.state, worst.kind, {"contrast": worst.name} if spoilt and not against else {}, worst.name)
    if all(e.state == "supported" for e in estimates):
        return Said("supported", decides=worst.name)
    return Said("undecided", Reason.AT_MARGIN, decides=worst.name)


def _needed(finding: Finding, estimate: Estimate, alpha: float) -> int:
    """Seeds to tell apart 0 and the margin (equivalence: to show two equal arms equal), from the spread alone."""
    if estimate.sd == 0:
        return LEAST[finding.seeds]
    margin = margin_of(finding)
    wanted = seeds_for_equivalence if finding.rule == "equivalence" else seeds_needed
    return min(max(wanted(margin, estimate.sd, alpha), LEAST[finding.seeds]), MOST)
