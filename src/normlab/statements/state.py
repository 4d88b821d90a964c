"""What the verdicts and estimates of its findings say about a statement."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from normlab.findings.estimates import margin_of
from normlab.findings.finding import Finding
from normlab.findings.judge import LEAST
from normlab.findings.states import ruled
from normlab.findings.verdict import Estimate, Verdict
from normlab.statements.statement import FindingUsed, Statement, names_of

STATES = ("supported", "contradicted", "splits", "undecided", "not run")
NETWORKS = {"mlp": "MLP", "cnn": "CNN", "lstm": "LSTM", "transformer": "Transformer"}
_OPPOSITE = {"supported": "contradicted", "contradicted": "supported"}


@dataclass(frozen=True)
class Part:
    """One contrast, or the bounds of one cell, as evidence for or against a statement.

    state     supported, contradicted, undecided or not run, of the statement
    n         number of seeds; 0: not run
    primary   a verdict; otherwise an estimate, by its own 95 % interval
    networks  of its cells, such as `CNN`
    estimate  its numbers, if it has any
    """

    finding: str
    name: str
    state: str
    n: int
    primary: bool
    networks: tuple[str, ...]
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Standing:
    """A statement, its evidence, and what follows from it.

    state    one of STATES
    only_in  the only network that has evidence in favour of a statement about networks; empty otherwise
    lacking  cells of its findings that a stored result doesn't have, as `finding: cell`
    """

    statement: Statement
    parts: list[Part]
    state: str
    only_in: str = ""
    lacking: tuple[str, ...] = ()


def standing_of(statement: Statement, findings: Mapping[str, Finding], verdicts: Mapping[str, Verdict]) -> Standing:
    """The state of a statement.

    It is supported if all of its parts that were run are, contradicted if all are, and splits by condition if some are
    supported and others contradicted. Otherwise, as soon as one part is open, it is undecided. Parts with fewer seeds
    than a verdict needs are open. An open contrast of a finding whose rule counts (`at_least`) and which is supported
    without it leaves nothing open: so many were asked for before the data were seen. Intervals of exploratory findings
    are at 95 % each, without a correction for their number.

    Args:
        findings: by name.
        verdicts: by finding, for those that were run.
    """
    parts = [
        part for test in statement.tests for part in parts_of(test, findings[test.finding], verdicts.get(test.finding))
    ]
    lacking = [
        f"{test.finding}: {cell}"
        for test in statement.tests
        for cell in lacking_cells(findings[test.finding], verdicts.get(test.finding))
    ]
    found = {network for part in parts if part.state == "supported" for network in part.networks}
    named = {test.finding for test in statement.tests if findings[test.finding].at_least is not None}
    spared = {name for name in named & verdicts.keys() if verdicts[name].state == "supported"}
    state = together(part.state for part in parts if part.state != "undecided" or part.finding not in spared)
    alone = state == "supported" and statement.about == "networks" and len(found) == 1
    return Standing(statement, parts, state, found.pop() if alone else "", tuple(dict.fromkeys(lacking)))


def together(states: Iterable[str]) -> str:
    """The state that parts with these states have together."""
    found = {state for state in states if state != "not run"}
    if not found:
        return "not run"
    if {"supported", "contradicted"} <= found:
        return "splits"
    return found.pop() if len(found) == 1 else "undecided"


def parts_of(test: FindingUsed, finding: Finding, verdict: Verdict | None) -> Iterator[Part]:
    """Every contrast, or every cell with bounds, that the test takes."""
    for name in names_of(finding):
        if not test.takes(name):
            continue
        state, n, estimate = (
            _exact(finding, name, verdict) if finding.rule == "exact" else _read(finding, name, verdict)
        )
        state = _OPPOSITE.get(state, state) if test.opposes else state
        yield Part(
            finding=finding.name,
            name=name,
            state=state,
            n=n,
            primary=finding.primary,
            networks=networks_of(finding, name),
            estimate=estimate,
        )


def lacking_cells(finding: Finding, verdict: Verdict | None) -> list[str]:
    """Cells of the finding's file of which a stored verdict has no run."""
    if verdict is None:
        return []
    there = {arm.cell for arm in verdict.arms if arm.n}
    return [str(cell) for cell in finding.cells if str(cell) not in there]


def networks_of(finding: Finding, name: str) -> tuple[str, ...]:
    """The networks of a contrast's cells, by the last `model=` of their options; a measure of norms alone has none."""
    cells = (
        [cell for cell in finding.cells if str(cell) == name]
        if finding.rule == "exact"
        else list(finding.formulas[name].weights)
    )
    found = []
    for cell in cells:
        options = [*finding.common, *finding.conditions.get(cell.condition, []), *finding.arms[cell.arm]]
        chosen = [option.removeprefix("model=") for option in options if option.startswith("model=")]
        found += [NETWORKS.get(chosen[-1], chosen[-1])] if chosen else []
    return tuple(dict.fromkeys(found))


def _read(finding: Finding, name: str, verdict: Verdict | None) -> tuple[str, int, Estimate | None]:
    estimate = next((e for e in verdict.estimates if e.name == name), None) if verdict is not None else None
    if estimate is None:
        return "not run", 0, None
    n = len(estimate.all_seeds)
    decided = estimate if finding.primary else ruled(finding.rule, margin_of(finding), estimate)
    enough = n >= min(LEAST[finding.seeds], LEAST["training"])
    return decided.state if enough else "undecided", n, estimate


def _exact(finding: Finding, cell: str, verdict: Verdict | None) -> tuple[str, int, Estimate | None]:
    bounds = [bound for bound in verdict.bounds if bound.cell == cell] if verdict is not None else []
    if not bounds or verdict is None:
        return "not run", 0, None
    n = next((arm.n for arm in verdict.arms if arm.cell == cell), 0)
    complete = len(bounds) == len(finding.bounds[cell]) and n >= LEAST["exact"]
    held = "supported" if all(bound.holds for bound in bounds) else "contradicted"
    return held if complete else "undecided", n, None


def count_words(standings: Sequence[Standing]) -> str:
    """`9 supported, 3 splits, 10 not run`."""
    states = [standing.state for standing in standings]
    return ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
