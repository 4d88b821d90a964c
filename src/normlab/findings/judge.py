"""The rule that turns a finding's numbers into its verdict, fixed in its YAML before the data exist. Imports no torch.

`judge` has the order in which reasons are considered; `states` compares an interval with the margin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from normlab.findings.estimates import bounds_of, contrasts_of, further_of, margin_of, summary_of
from normlab.findings.examples import Scores
from normlab.findings.finding import LEAST, Finding
from normlab.findings.formula import Cell
from normlab.findings.states import ALPHA, ruled, state_of, unseen_side
from normlab.findings.verdict import ArmSummary, Bound, Estimate, Reason, Row, Verdict
from normlab.stats import guarded
from normlab.stats.power import MOST
from normlab.stats.sequential import Design, seeds_needed

PRIMARIES = 6  # size of the family: each primary's interval has the error 0.05 / 6, whether it runs alone or not
SPOILT = frozenset(
    {Reason.BOTH_FAILED, Reason.NO_SPREAD, Reason.ALIKE, Reason.FEW_PAIRS, Reason.FAILURES}
)  # no evidence either way


class Ruling(NamedTuple):
    """A state, its reason, and the contrast that decided it."""

    state: str
    reason: Reason = Reason.NONE
    facts: Mapping[str, Any] = MappingProxyType({})
    decides: str = ""


def judge(
    finding: Finding,
    rows: Sequence[Row],
    planned: int,
    scale: str,
    edges: Mapping[Cell, bool],
    looks: Sequence[int] = (),
    *,
    scores: Scores = MappingProxyType({}),
) -> Verdict:
    """Apply the rule.

    Args:
        finding: with the rule.
        rows: of the reporting runs that have a result.
        planned: number of seeds that each cell should have by now: the look.
        scale: of the runs.
        edges: whether a cell's tuned option is best at an end of its grid.
        looks: all looks planned in advance, the last of them the cap; empty: this one alone.
        scores: run → its score on each example, for the runs that kept it; a finding about examples is judged by them.

    Raises:
        InputError: a run lacks the metric, a run diverged and the finding has no value for that, a cell has two
            runs of a seed, or the runs were tested on different examples.
    """
    alpha = alpha_of(finding)
    design = design_of(planned, alpha, looks)
    arms = [summary_of(finding, cell, rows, edge=bool(edges.get(cell, False))) for cell in finding.cells]
    contrasts = [] if finding.rule == "exact" else contrasts_of(finding, rows, design, planned, scores)
    margin = margin_of(finding) if contrasts else 0.0
    stated = [ruled(finding.rule, margin, estimate) for estimate in contrasts]
    if finding.at_least is not None or finding.rule == "comparison":
        stated = [_without_edge(finding, estimate, edges) for estimate in stated]
    bounds = bounds_of(finding, rows)
    ruling = _by_bounds(bounds) if finding.rule == "exact" else _by_contrasts(finding, stated)
    hindered = _hindered(finding, rows, arms, planned)
    if hindered is not None:
        ruling = hindered._replace(decides=ruling.decides)
    elif not finding.primary:
        ruling = (
            ruling._replace(state="estimate") if finding.rule == "exact" else Ruling("estimate", decides=ruling.decides)
        )
    needed = [n for e in stated if (n := seeds_to_tell(finding, e, alpha)) is not None]
    return replace(
        undecided(finding, scale, ruling.reason, **ruling.facts),
        state=ruling.state,
        decides=ruling.decides,
        estimates=stated if finding.primary else [_only_estimated(estimate) for estimate in stated],
        also=further_of(finding, rows, design_of(planned, ALPHA, looks), planned),
        arms=arms,
        bounds=bounds,
        looks=list(design.looks) if design is not None and finding.rule != "exact" else [],
        needed=max(needed, default=None),
    )


def alpha_of(finding: Finding) -> float:
    """The error that all looks at one of a finding's contrasts share."""
    return (ALPHA / PRIMARIES if finding.claim is not None and finding.primary else ALPHA) / finding.divisor


def design_of(planned: int, alpha: float, looks: Sequence[int] = ()) -> Design | None:
    """The planned looks as a design; None: too few seeds for any interval."""
    looks = tuple(looks) if planned in looks else (planned,)
    return Design(looks, alpha) if looks[0] >= guarded.LEAST else None


def still_open(looks: Sequence[int], spread: float) -> list[float]:
    """The share of primaries that take each look, for equal arms and normal differences; by simulation.

    Args:
        looks: the planned ones.
        spread: standard deviation of the differences, in margins.
    """
    design = Design(tuple(looks), ALPHA / PRIMARIES)
    d = np.random.default_rng(0).normal(0, spread, (2000, design.cap))
    undecided, shares = np.ones(len(d), dtype=bool), []
    for look in design.looks:
        shares.append(float(undecided.mean()))
        undecided &= design.limits(d[:, :look], look)[1] >= 1
    return shares


def keep_first(verdict: Verdict, first: Mapping[str, Any]) -> Verdict:
    """The first verdict, kept because these runs came after the planned looks were used up."""
    if verdict.state == first.get("state"):
        return verdict
    return replace(verdict, state=str(first["state"]), reason=Reason.KEPT, facts={"n": first.get("n")})


def undecided(finding: Finding, scale: str, reason: Reason, **facts: Any) -> Verdict:
    """The verdict if the rule can't be applied to the runs."""
    return Verdict(
        finding=finding.name,
        claim=finding.claim,
        primary=finding.primary,
        title=finding.title,
        scale=scale,
        rule=finding.rule,
        margin=finding.margin,
        level=1 - alpha_of(finding),
        state="undecided",
        reason=reason,
        facts=facts,
    )


def _only_estimated(estimate: Estimate) -> Estimate:
    """The estimate of an exploratory finding: no verdict, only the reason why it is no evidence, if there is one."""
    return replace(estimate, state="estimate", kind=estimate.kind if estimate.kind in SPOILT else Reason.NONE)


def _hindered(finding: Finding, rows: Sequence[Row], arms: Sequence[ArmSummary], planned: int) -> Ruling | None:
    """What keeps the runs from deciding anything, whatever their numbers say."""
    used = sorted(set(finding.recipe_seeds) & {int(row["seed"]) for row in rows})
    if finding.primary and used:
        return Ruling("undecided", Reason.RECIPE, {"seeds": ", ".join(map(str, used))})
    short = next((arm for arm in arms if arm.n < planned), None)
    if short is not None:
        return Ruling("undecided", Reason.INCOMPLETE, {"cell": short.cell, "n": short.n, "planned": planned})
    if finding.primary and planned < LEAST[finding.seeds]:
        return Ruling("undecided", Reason.TOO_FEW_SEEDS, {"planned": planned, "least": LEAST[finding.seeds]})
    edge = next((arm for arm in arms if arm.edge), None)
    by_contrast = finding.at_least is not None or finding.rule == "comparison"
    if finding.primary and not by_contrast and edge is not None:
        return Ruling("undecided", Reason.EDGE, {"cell": edge.cell, "point": edge.point})
    return None


def _by_bounds(bounds: Sequence[Bound]) -> Ruling:
    if not bounds:
        return Ruling("undecided", Reason.NO_RUNS)
    broken = [bound for bound in bounds if not bound.holds]
    decides = f"{(broken or bounds)[0].cell}: {(broken or bounds)[0].metric}"
    if broken:
        facts = {"broken": len(broken), "count": len(bounds)}
        return Ruling("contradicted", Reason.BOUNDS_BROKEN, facts, decides)
    return Ruling("supported", Reason.BOUNDS_HOLD, {"count": len(bounds)}, decides)


def _by_contrasts(finding: Finding, estimates: Sequence[Estimate]) -> Ruling:
    """All contrasts together: supported if each is, contradicted if one is."""
    if not estimates:
        return Ruling("undecided", Reason.NO_SHARED_SEEDS)
    margin = margin_of(finding)

    def room(e: Estimate) -> float:
        low, high = (e.mean, e.mean) if e.interval is None else (e.interval.low, e.interval.high)
        return min(margin - high, margin + low) if finding.rule == "equivalence" else low - margin

    against = [e for e in estimates if e.state == "contradicted"]
    spoilt = [e for e in estimates if e.state == "undecided" and e.kind is not Reason.AT_MARGIN]
    worst = min(against or spoilt or estimates, key=room)
    if finding.rule == "comparison":
        is_open = any(e.state == "undecided" for e in estimates)
        reason = Reason.AT_MARGIN if is_open else Reason.NONE
        return Ruling("undecided" if is_open else "estimate", reason, {}, worst.name)
    if finding.at_least is not None:
        return _by_count(finding, estimates, worst)
    if against or spoilt:
        return Ruling(worst.state, worst.kind, _facts(finding, worst) if spoilt and not against else {}, worst.name)
    if all(e.state == "supported" for e in estimates):
        return Ruling("supported", decides=worst.name)
    return Ruling("undecided", Reason.AT_MARGIN, decides=worst.name)


def _by_count(finding: Finding, estimates: Sequence[Estimate], worst: Estimate) -> Ruling:
    """At least so many of the contrasts: one that is undecided, for whatever reason, counts for neither side."""
    states, count, needed = [e.state for e in estimates], len(finding.formulas), finding.at_least or 0
    facts = {state: states.count(state) for state in ("supported", "contradicted")} | {"count": count}
    facts |= {"at_least": needed}
    if facts["supported"] >= needed:
        return Ruling("supported", Reason.ENOUGH, facts, worst.name)
    if facts["contradicted"] > count - needed:
        return Ruling("contradicted", Reason.NOT_ENOUGH, facts, worst.name)
    return Ruling("undecided", Reason.COUNT_OPEN, facts, worst.name)


def _without_edge(finding: Finding, estimate: Estimate, edges: Mapping[Cell, bool]) -> Estimate:
    """The contrast, undecided if the best rate of one of its cells is at an end of the grid."""
    cells = finding.formulas[estimate.name].weights
    at_edge = finding.primary and any(edges.get(cell, False) for cell in cells)
    return replace(estimate, state="undecided", kind=Reason.EDGE) if at_edge else estimate


def _facts(finding: Finding, estimate: Estimate) -> dict[str, Any]:
    """The facts for the sentence about a contrast that can't be used."""
    facts: dict[str, Any] = {"contrast": estimate.name}
    if estimate.kind is Reason.ALIKE:
        facts |= {"examples": estimate.examples}
    if estimate.kind is Reason.FEW_PAIRS:
        kept = len(estimate.failures.kept) if estimate.failures is not None else len(estimate.seeds)
        facts |= {"left": kept, "least": guarded.LEAST}
    if estimate.kind is Reason.FAILURES and estimate.interval is not None:
        low, high = estimate.interval.low, estimate.interval.high
        side = unseen_side(finding.rule, state_of(finding.rule, margin_of(finding), low, high)[0], estimate)
        facts |= {"side": estimate.sides[side or 0]}
    return facts


def seeds_to_tell(finding: Finding, estimate: Estimate, alpha: float) -> int | None:
    """Seeds needed to distinguish 0 from the margin (equivalence: to show equal arms equal).

    By an upper bound on the spread; None: all differences are equal, so the spread is unknown.
    """
    try:
        found = seeds_needed(
            estimate.values,
            margin_of(finding),
            alpha,
            equivalence=finding.rule == "equivalence",
            fixed=estimate.example_error or 0.0,
        )
    except ValueError:  # equal values
        return None
    return min(max(found, LEAST[finding.seeds]), MOST)
