"""Statements as text: their state in words, and one line for each part. The page and the terminal show the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from normlab.config.errors import InputError
from normlab.findings.finding import Finding
from normlab.findings.read import find_file, read_node
from normlab.findings.verdict import Verdict
from normlab.findings.wording import estimate_words
from normlab.statements.state import Part, Standing, count_words, lacking_cells, standing_of
from normlab.statements.statement import read_statements

_ALL = 3  # names that are written out


def standings(conf: Path, findings: Mapping[str, Finding], verdicts: Mapping[str, Verdict]) -> list[Standing]:
    """Where every statement of the textbook stands; none if its files can't be read, which a study says on planning.

    Args:
        verdicts: by finding.
    """
    try:
        named = read_node(find_file("study", "textbook", conf), "study").get("statements")
        found = read_statements(conf, str(named), [*findings.values()]).entries if named else []
    except InputError:
        found = []
    return [standing_of(entry, findings, verdicts) for entry in found]


def page_rows(conf: Path, found: Iterable[tuple[Finding, Verdict | None]]) -> list[dict[str, Any]]:
    """The statements as the report's template shows them: texts, and `colour`, the class of the state."""
    pairs = list(found)
    verdicts = {finding.name: verdict for finding, verdict in pairs if verdict is not None}
    return [
        {
            "text": standing.statement.text,
            "state": state_words(standing),
            "colour": {"not run": "none", "splits": "undecided"}.get(standing.state, standing.state),
            "split": split_words(standing),
            "lacking": ", ".join(standing.lacking),
            "doubt": standing.statement.doubt,
            "parts": [part_words(part) for part in standing.parts],
        }
        for standing in standings(conf, {finding.name: finding for finding, _ in pairs}, verdicts)
    ]


def lacking_words(findings: Iterable[Finding], verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    """For findings whose stored results lack cells of their files, as after importing an older pack: which."""
    for finding in findings:
        if cells := lacking_cells(finding, verdicts.get(finding.name)):
            yield f"{finding.name}: the results here have no run of {', '.join(cells)}; this study runs what is missing"


def state_words(standing: Standing) -> str:
    """`supported in the MLP only`, `splits by condition`, `undecided`."""
    if standing.state == "splits":
        return "splits by condition"
    only = f", in the {standing.only_in} only" if standing.only_in else ""
    partly = standing.state != "not run" and any(part.state == "not run" for part in standing.parts)
    return f"{standing.state}{only}{', as far as it was run' if partly else ''}"


def split_words(standing: Standing) -> str:
    """Which parts stand where, if they differ: `supported: …; contradicted: …; undecided: …`."""
    states = [
        state
        for state in ("supported", "contradicted", "undecided", "not run")
        if any(part.state == state for part in standing.parts)
    ]
    if len(states) < 2:
        return ""
    return "; ".join(f"{state}: {_names(standing.parts, state)}" for state in states)


def part_words(part: Part) -> str:
    """`small_batch, 64 to 2: +2.1 points [+1.5, +2.7], n = 8, an estimate`."""
    if part.state == "not run":
        return f"{part.finding}, {part.name}: not run"
    numbers = f" {estimate_words(part.estimate)}," if part.estimate is not None else ""
    kind = "a verdict" if part.primary else "an estimate"
    return f"{part.finding}, {part.name}: {part.state},{numbers} n = {part.n}, {kind}"


def lines(found: Sequence[Standing]) -> Iterator[str]:
    """The table on a terminal."""
    for standing in found:
        yield f"[{state_words(standing)}] {standing.statement.text}"
        if words := split_words(standing):
            yield f"    {words}"
        if standing.lacking:
            yield f"    no run of {', '.join(standing.lacking)}"
        yield f"    what could be wrong: {standing.statement.doubt}"
    yield f"{len(found)} statements: {count_words(found)}"


def _names(parts: Sequence[Part], state: str) -> str:
    names = [f"{part.finding} ({part.name})" for part in parts if part.state == state]
    more = f" and {len(names) - _ALL} more" if len(names) > _ALL else ""
    return ", ".join(names[:_ALL]) + more
