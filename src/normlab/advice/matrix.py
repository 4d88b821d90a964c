"""Which norm for which network: looks up the contrasts that findings name as advice, and infers nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from normlab.findings.advice import Advice, Model, When
from normlab.findings.estimates import margin_of
from normlab.findings.finding import Finding
from normlab.findings.judge import SPOILT
from normlab.findings.labels import condition_words, norm_words
from normlab.findings.states import state_of
from normlab.findings.verdict import NOT_JUDGED, Estimate, Reason, Verdict
from normlab.findings.wording import estimate_words, reason_words
from normlab.results.sources import SCALES, StudyResult
from normlab.results.words import FEW, first_upper, measured, metric_words, run_phrase

_DECIDED = ("plus", "minus", "equal", "depends")


@dataclass(frozen=True)
class Preference:
    """What one contrast means for one cell of the matrix.

    outcome  plus: prefer the norm `plus`; minus: prefer the other; equal: they differ by less than the margin;
             depends: one of these on some data and another on others; open: enough runs, not decided;
             point: too few seeds or no tuned rate; failed: both sides are at chance
    data     the contrast's condition, such as `an LSTM on words`; empty: it has none
    words    `layer norm rather than batch norm`
    value    the number with its interval, or the bounds
    number   for the page: the number with its interval
    runs     ids of the runs behind it
    decides  its finding decides a claim: it is primary, and none that succeeds it has a verdict here
    """

    advice: Advice
    finding: Finding
    result: StudyResult
    outcome: str
    data: str
    words: str
    value: str
    number: str
    runs: list[str]
    decides: bool

    @property
    def short(self) -> str:
        """For the page: the number and its study."""
        return f"{self.number}; {'yours' if self.result.source.own else 'reference'}, {run_phrase(self.result)}"

    @property
    def cited(self) -> str:
        """`lstm_batch_size, the reference quick, n = 8 seeds, verdict supported`."""
        verdict = self.result.verdict
        said = f", verdict {verdict.state}" if verdict is not None and verdict.primary else ", an estimate"
        return f"{self.finding.name}, {self.result.source.name}, {run_phrase(self.result)}{said}"

    @property
    def decided(self) -> bool:
        """Does it say which norm to prefer, or that none is to be?"""
        return self.outcome in _DECIDED

    @property
    def strength(self) -> str:
        """How much the recommendation can carry."""
        if self.decided:
            return "strong: it decides a claim" if self.decides else "moderate: it decides no claim"
        return {"open": "open", "failed": "none: both failed"}.get(self.outcome, "weak: a data point")

    @property
    def _rank(self) -> tuple[bool, bool, bool, int, int]:
        verdict = self.result.verdict
        scale = SCALES.index(verdict.scale) if verdict is not None and verdict.scale in SCALES else 0
        return self.decided, self.outcome == "open", self.decides, scale, len(self.runs)


@dataclass
class Answer:
    """A cell of the matrix: for each pair of norms the study that says most, and the rest.

    untried  findings about it that have no result yet
    """

    best: list[Preference] = field(default_factory=list)
    others: list[Preference] = field(default_factory=list)
    untried: list[Finding] = field(default_factory=list)

    def sorted(self) -> Answer:
        """Only the best of each pair speaks, so no two of them contradict each other."""
        ranked = sorted([*self.best, *self.others], key=lambda e: e._rank, reverse=True)
        pairs: dict[frozenset[str], list[Preference]] = {}
        for each in ranked:
            pairs.setdefault(frozenset((each.advice.plus, each.advice.minus)), []).append(each)
        best, spoken = [], list[Preference]()
        for group in pairs.values():
            on_all = _same_study(group)
            best.append(_together(on_all))
            spoken += on_all
        return Answer(best, [each for each in ranked if not any(each is one for one in spoken)], self.untried)


def _same_study(ranked: Sequence[Preference]) -> list[Preference]:
    """The best, and what the same study found on other data if that is different."""
    first = ranked[0]
    on_all = [
        each
        for each in ranked
        if each.data and each.finding is first.finding and each.result is first.result
        if each.decided or each.outcome == "open"
    ]
    return on_all if len({each.outcome for each in on_all}) > 1 else [first]


def _together(on_all: Sequence[Preference]) -> Preference:
    """One preference of several that a study found on different data, which names them all."""
    first, *others = on_all
    if not others:
        return first
    decided = {each.outcome for each in on_all if each.decided}
    words = _words(first.advice, "depends") if len(decided) > 1 else f"{first.words}, but not in every case"
    numbers = "; ".join(f"{each.data}: {_brief(each)}, {each.number}" for each in on_all)
    return replace(
        first,
        outcome="depends" if len(decided) > 1 else first.outcome,
        words=words,
        value=numbers,
        number=numbers,
        runs=[run for each in on_all for run in each.runs],
    )


Matrix = dict[tuple[When, Model], Answer]


def matrix_of(findings: Iterable[Finding], results: Mapping[str, Sequence[StudyResult]]) -> Matrix:
    """What is known for each condition and model; smoke studies, whose numbers mean nothing, are left out.

    Args:
        results: finding → its results, the user's own study first.
    """
    matrix: Matrix = {}
    for finding in findings:
        decides = finding.primary and not _has_verdict(results.get(finding.succeeded_by or "", []))
        for entry in finding.advice:
            answer = matrix.setdefault((entry.when, entry.model), Answer())
            read = [r for r in results.get(finding.name, []) if not r.changed]
            found = [each for r in read if (each := _preference(entry, finding, r, decides)) is not None]
            answer.best += found
            if not found and finding not in answer.untried:
                answer.untried.append(finding)
    return {cell: answer.sorted() for cell, answer in matrix.items()}


def _has_verdict(results: Sequence[StudyResult]) -> bool:
    return any(r.verdict is not None and r.verdict.scale != "smoke" and not r.changed for r in results)


def _preference(advice: Advice, finding: Finding, result: StudyResult, decides: bool) -> Preference | None:
    verdict = result.verdict
    if verdict is None or verdict.scale == "smoke":
        return None
    if advice.contrast is None:
        outcome, value = _of_bounds(verdict)
        number = reason_words(verdict)
        runs = [str(row["id"]) for row in result.rows]
    else:
        estimate = next((e for e in verdict.estimates if e.name == advice.contrast), None)
        if estimate is None:
            return None
        cells = set(finding.formulas[advice.contrast].weights)
        outcome = _outcome(finding, verdict, estimate)
        value = f"{measured(finding, estimate)} {estimate_words(estimate)}"
        number = f"{metric_words(estimate.metric)} {estimate_words(estimate)}"
        arms = {(cell.arm, cell.condition) for cell in cells}
        runs = [str(row["id"]) for row in result.rows if (row["arm"], row["condition"]) in arms]
    return Preference(
        advice=advice,
        finding=finding,
        result=result,
        outcome=outcome,
        data=condition_words(finding, (advice.contrast or "").partition(" @ ")[2]),
        words=_words(advice, outcome),
        value=value,
        number=number,
        runs=runs,
        decides=decides,
    )


def _of_bounds(verdict: Verdict) -> tuple[str, str]:
    """One broken bound contradicts the claim; it is supported if all bounds hold and every run is done.

    What is exact has no spread, so that the least number of seeds doesn't apply to it.
    """
    outcome = {Reason.BOUNDS_HOLD: "plus", Reason.BOUNDS_BROKEN: "minus"}.get(verdict.reason, "open")
    broken = sum(not bound.holds for bound in verdict.bounds)
    so_far = f"; {broken} of {len(verdict.bounds)} bounds broken so far" if broken and outcome == "open" else ""
    return outcome, f"exact: {reason_words(verdict)}{so_far}"


def _outcome(finding: Finding, verdict: Verdict, estimate: Estimate) -> str:
    """The outcome by the interval and the margin, unless these runs can't decide anything."""
    n = len(estimate.all_seeds)
    if estimate.kind is Reason.BOTH_FAILED or _both_failed(estimate):
        return "failed"
    if n < FEW or not _tuned(finding, verdict, estimate):
        return "point"
    spoilt = estimate.kind in SPOILT or estimate.interval is None
    if spoilt or (verdict.state == "undecided" and verdict.reason in NOT_JUDGED):
        return "open"
    assert estimate.interval is not None
    state, kind = state_of("difference", margin_of(finding), estimate.interval.low, estimate.interval.high)
    if state == "supported":
        return "plus"
    return {Reason.OPPOSITE: "minus", Reason.IRRELEVANT: "equal"}.get(kind, "open")


def _both_failed(estimate: Estimate) -> bool:
    n = len(estimate.all_seeds)
    return len(estimate.failed) == 2 and all(2 * len(failed) > n for failed in estimate.failed)


def _tuned(finding: Finding, verdict: Verdict, estimate: Estimate) -> bool:
    """Was each arm's rate chosen for it? Measures of untrained networks and of times have none to choose."""
    if finding.seeds != "training":
        return True
    cells = set(map(str, finding.formulas[estimate.name].weights))
    return finding.tune is not None and all(arm.point is not None for arm in verdict.arms if arm.cell in cells)


def _words(advice: Advice, outcome: str) -> str:
    plus, minus = norm_words(advice.plus), norm_words(advice.minus)
    return {
        "plus": f"{plus} rather than {minus}",
        "minus": f"{minus} rather than {plus}",
        "equal": f"{plus} or {minus}: no difference that matters",
        "depends": f"{plus} or {minus}: it depends",
        "open": f"{plus} or {minus}: not decided",
        "point": f"{plus} compared with {minus}: a data point, no conclusion",
        "failed": f"{plus} and {minus}: both failed",
    }[outcome]


def _brief(each: Preference) -> str:
    advice = each.advice
    better = {"plus": norm_words(advice.plus), "minus": norm_words(advice.minus), "equal": "no difference that matters"}
    return better.get(each.outcome, "not decided")


def sentence(answer: Answer) -> str:
    """The recommendation, with the number behind it; `Nothing yet.` if there is none."""
    if not answer.best:
        return "Nothing yet."
    first = answer.best[0]
    return f"{first_upper(first.words)}: {first.short}."
