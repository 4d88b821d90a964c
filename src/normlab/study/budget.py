"""What a study may cost and is expected to cost: seeds of its primaries, steps of each arm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from normlab.findings.finding import Finding
from normlab.findings.judge import still_open
from normlab.study.scale import Scale
from normlab.study.stages import Trial
from normlab.sweep.plan import Job

SPREAD = 0.5  # of the differences, in margins, by which the expected cost is reckoned


def expected_seeds(looks: Sequence[int], spread: float) -> float:
    """Mean seeds of a primary until it is decided, for equal arms; `spread` as for `still_open`."""
    steps = [later - sooner for sooner, later in pairwise([0, *looks])]
    return sum(share * step for share, step in zip(still_open(looks, spread), steps, strict=True))


def looks_words(scale: Scale, findings: Sequence[Finding]) -> list[str]:
    """What a study that looks more than once may cost, for findings of each unit; empty if it looks once."""
    every = dict.fromkeys(scale.looks_of(finding) for finding in findings if finding.rule != "exact")
    return [
        f"the runs are an upper bound: a primary is judged after {', '.join(map(str, looks))} seeds and ends when it "
        f"is decided; of {looks[-1]} seeds {expected_seeds(looks, 0.25):.0f} are expected where arms are equal and "
        f"differences spread by a quarter of the margin, {expected_seeds(looks, SPREAD):.0f} where by half of it"
        for looks in every
        if len(looks) > 1
    ]


def chances(
    findings: Sequence[Finding], scale: Scale, trials: Sequence[Trial], jobs: Sequence[Job]
) -> dict[int, float]:
    """Job number → the chance that its run is needed: of a primary's later seeds, that no earlier look decides.

    A run that several findings share is at least as likely as each of them makes it.
    """
    needed: dict[str, dict[int, float]] = {}
    for finding in findings:
        looks = scale.looks_of(finding)
        shares = still_open(looks, SPREAD) if len(looks) > 1 and finding.rule != "exact" else [1.0]
        bounds = [0, *looks][: len(shares)]
        order = enumerate(scale.reporting(finding))
        needed[finding.name] = {
            seed: next(s for s, first in zip(shares[::-1], bounds[::-1], strict=True) if place >= first)
            for place, seed in order
        }
    found: dict[int, float] = {}
    for trial, job in zip(trials, jobs, strict=True):
        chance = 1.0 if trial.stage == "tune" else needed[trial.finding][trial.seed]
        found[job.number] = max(chance, found.get(job.number, 0.0))
    return found


def budget_words(trials: Sequence[Trial], jobs: Sequence[Job], steps: Callable[[Job], int]) -> list[str]:
    """Of each finding that tunes: `small_batch: tuning 9 runs and 33,750 steps per arm, reporting at most 30,000`.

    Args:
        steps: of a job's training.
    """
    lines = []
    for name in dict.fromkeys(trial.finding for trial in trials):
        sums: dict[str, dict[str, list[int]]] = {"tune": {}, "report": {}}
        for trial, job in zip(trials, jobs, strict=True):
            if trial.finding == name:
                sums[trial.stage].setdefault(str(trial.cell), []).append(steps(job))
        if sums["tune"]:
            runs = _span(len(own) for own in sums["tune"].values())
            tuning, reporting = (_span(map(sum, sums[stage].values())) for stage in sums)
            lines.append(f"{name}: tuning {runs} runs and {tuning} steps per arm, reporting at most {reporting} steps")
    return lines


def _span(numbers: Iterable[int]) -> str:
    """`30,000`, or `5,000 to 30,000`."""
    known = sorted(set(numbers))
    return f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
