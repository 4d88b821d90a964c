"""Which norm for which network: looks up the contrasts that findings name as advice, and infers nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from normlab.config.schema import InputError
from normlab.findings.advice import Advice, Model, When
from normlab.findings.estimates import margin_of
from normlab.findings.finding import Finding
from normlab.findings.judge import SPOILT, state_of
from normlab.findings.verdict import NOT_JUDGED, Estimate, Reason, Verdict
from normlab.findings.wording import estimate_words, reason_words
from normlab.results.sources import StudyResult
from normlab.results.words import measured, metric_words, run_phrase

MODELS: tuple[Model, ...] = get_args(Model)
FEW = 16  # examples per set of statistics; from MANY on they are many; between the two, nothing was tested
MANY = 64


@dataclass(frozen=True)
class Preference:
    """What one contrast means for one cell of the matrix.

    outcome  plus: prefer the norm `plus`; minus: prefer the other; equal: they differ by less than the margin;
             open: not decided
    words    `layer rather than batch`
    value    the number with its interval, or the bounds
    short    for the page: the number and its study
    runs     ids of the runs behind it
    """

    advice: Advice
    finding: Finding
    result: StudyResult
    outcome: str
    words: str
    value: str
    short: str
    runs: list[str]

    @property
    def cited(self) -> str:
        """`lstm_batch_size, the reference quick, n = 8 seeds, verdict supported`."""
        verdict = self.result.verdict
        said = f", verdict {verdict.state}" if verdict is not None and verdict.primary else ", an estimate"
        return f"{self.finding.name}, {self.result.source.name}, {run_phrase(self.result)}{said}"


Matrix = dict[tuple[When, Model], list[Preference]]


def matrix_of(findings: Iterable[Finding], results: Mapping[str, Sequence[StudyResult]]) -> Matrix:
    """What is known for each condition and model; smoke studies, whose numbers mean nothing, are left out.

    Args:
        results: finding → its results, the user's own study first.
    """
    matrix: Matrix = {}
    for finding in findings:
        for entry in finding.advice:
            for result in results.get(finding.name, []):
                found = None if result.changed else _preference(entry, finding, result)
                if found is not None:
                    matrix.setdefault((entry.when, entry.model), []).append(found)
    return matrix


def conditions(choices: Sequence[str]) -> tuple[Model, list[When], list[str]]:
    """The model, the conditions to look up (all if none is named), and remarks.

    Args:
        choices: arguments such as `model=lstm`, `batch=4`, `lengths=variable`.

    Raises:
        InputError: an unknown argument, or no model.
    """
    asked: dict[str, str] = {}
    for choice in choices:
        key, equals, value = choice.partition("=")
        if not equals or not value or key not in {"model", "batch", *_KEYS}:
            raise InputError(f"{choice}: choose {_usage()}")
        if key in asked:
            raise InputError(f"{key} is chosen twice: {key}={asked[key]} and {choice}")
        asked[key] = value
    model = next((known for known in MODELS if known == asked.get("model")), None)
    if model is None:
        said = f"there is no model={asked['model']}" if "model" in asked else "no model is given"
        raise InputError(f"{said}: {', '.join(f'model={name}' for name in MODELS)}")
    chosen: list[When] = []
    remarks = []
    if "batch" in asked:
        found, remark = _by_batch(asked["batch"])
        chosen += found
        remarks += [remark] if remark else []
    for key, values in _KEYS.items():
        if key not in asked:
            continue
        if asked[key] not in values:
            raise InputError(f"there is no {key}={asked[key]}; there are {', '.join(values)}")
        when = values[asked[key]]
        chosen += [when] if when else []
    if len(chosen) > 1:
        remarks.append("Each condition was tested separately; there is no evidence on combinations of conditions.")
    return model, chosen, remarks


_KEYS: dict[str, dict[str, When | None]] = {
    "lengths": {"fixed": None, "variable": "variable_lengths", "unseen": "unseen_lengths"},
    "order": {"shuffled": None, "sorted": "sorted_batches"},
    "task": {"classification": None, "language_model": "causal"},
    "depth": {"shallow": None, "deep": "depth"},
    "want": {
        "independence": "independence",
        "high_rates": "high_rates",
        "few_steps": "few_steps",
        "training_time": "training_time",
        "inference_time": "inference_time",
        "memory": "memory",
    },
}


def _usage() -> str:
    keys = [f"{key}={'|'.join(values)}" for key, values in _KEYS.items()]
    return f"model={'|'.join(MODELS)}, optionally with batch=<examples>, {', '.join(keys)}"


def _by_batch(text: str) -> tuple[list[When], str]:
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"batch={text} must be a whole number of examples of at least 1, such as batch=4")
    size = int(text)
    if size == 1:
        return [
            "single_example"
        ], "Batch norm can't train an MLP or an LSTM with one example per step; normlab refuses it."
    if size <= FEW:
        return ["few_examples"], ""
    if size >= MANY:
        return ["many_examples"], ""
    return (
        ["few_examples", "many_examples"],
        f"Between {FEW} and {MANY} examples nothing was tested; the evidence for smaller and larger batches follows.",
    )


def _preference(advice: Advice, finding: Finding, result: StudyResult) -> Preference | None:
    verdict = result.verdict
    if verdict is None or verdict.scale == "smoke":
        return None
    if advice.contrast is None:
        outcome, value = _of_bounds(verdict)
        short = reason_words(verdict)
        runs = [str(row["id"]) for row in result.rows]
    else:
        estimate = next((e for e in verdict.estimates if e.name == advice.contrast), None)
        if estimate is None:
            return None
        outcome = _outcome(finding, verdict, estimate)
        value = f"{measured(finding, estimate)} {estimate_words(estimate)}"
        short = f"{metric_words(estimate.metric)} {estimate_words(estimate)}"
        arms = {(cell.arm, cell.condition) for cell in finding.formulas[advice.contrast].weights}
        runs = [str(row["id"]) for row in result.rows if (row["arm"], row["condition"]) in arms]
    short += f"; {'yours' if result.source.own else 'reference'}, {run_phrase(result)}"
    return Preference(
        advice=advice,
        finding=finding,
        result=result,
        outcome=outcome,
        words=_words(advice, outcome),
        value=value,
        short=short,
        runs=runs,
    )


def _of_bounds(verdict: Verdict) -> tuple[str, str]:
    """One broken bound contradicts the claim; it is supported if all bounds hold and every run is done."""
    outcome = {Reason.BOUNDS_HOLD: "plus", Reason.BOUNDS_BROKEN: "minus"}.get(verdict.reason, "open")
    broken = sum(not bound.holds for bound in verdict.bounds)
    so_far = f"; {broken} of {len(verdict.bounds)} bounds broken so far" if broken and outcome == "open" else ""
    return outcome, f"exact: {reason_words(verdict)}{so_far}"


def _outcome(finding: Finding, verdict: Verdict, estimate: Estimate) -> str:
    """The outcome by the interval and the margin, unless these runs can't decide anything."""
    spoilt = estimate.kind in SPOILT or estimate.interval is None
    if spoilt or (verdict.state == "undecided" and verdict.reason in NOT_JUDGED):
        return "open"
    assert estimate.interval is not None
    state, kind = state_of("difference", margin_of(finding), estimate.interval.low, estimate.interval.high)
    if state == "supported":
        return "plus"
    return {Reason.OPPOSITE: "minus", Reason.IRRELEVANT: "equal"}.get(kind, "open")


def _words(advice: Advice, outcome: str) -> str:
    return {
        "plus": f"{advice.plus} rather than {advice.minus}",
        "minus": f"{advice.minus} rather than {advice.plus}",
        "equal": f"{advice.plus} or {advice.minus}: no difference that matters",
        "open": f"{advice.plus} or {advice.minus}: not decided",
    }[outcome]
