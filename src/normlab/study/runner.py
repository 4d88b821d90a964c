"""Does the runs that a stage of a finding needs, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape

from normlab.config.schema import RunConfig
from normlab.findings.finding import Finding
from normlab.study.planned import PlanRecord
from normlab.study.serving import Serving
from normlab.study.stages import Trial
from normlab.sweep.dry import Compose
from normlab.sweep.multirun import Launch, admit, carry_out, is_missing, look_up
from normlab.sweep.paused import has_paused
from normlab.sweep.plan import Job, Outcome, furthest, planned


@dataclass
class Runner:
    """From trials to runs.

    plan     where the runs of each stage are recorded
    alone    runs that measure times have the machine to themselves
    serving  which findings and arms each run is evidence for, as far as known
    failed   runs without a result so far
    """

    cfg: DictConfig
    composer: Compose
    launch: Launch
    console: Console
    plan: PlanRecord
    alone: bool
    serving: Serving = field(default_factory=Serving)
    failed: int = 0

    def configs(self, trials: Sequence[Trial]) -> list[RunConfig]:
        """The checked config of each trial."""
        return self.composer([trial.choices for trial in trials], Path(str(self.cfg.cache)))

    def jobs(self, trials: Sequence[Trial]) -> list[Job]:
        """The job of each trial, in their order."""
        jobs = planned([trial.choices for trial in trials], self.configs(trials))
        return [replace(job, pause=trial.pause) for trial, job in zip(trials, jobs, strict=True)]

    def run(self, finding: Finding, stage: str, trials: Sequence[Trial]) -> tuple[list[Job], dict[int, Outcome]]:
        """Run the trials that have no result yet, or up to their pause; returns their jobs in order."""
        jobs = self.jobs(trials)
        self.serving.add(trials, [job.config for job in jobs])
        jobs = [replace(job, serves=self.serving.of(job.config)) for job in jobs]
        unique = furthest(jobs)
        self.plan.begin(finding, stage, trials, jobs)
        admit(unique)  # first: how far a run has come is read only from runs that count
        found = look_up(unique)
        todo = [job for job in unique if is_missing(job, found[job.number])]
        todo = [job for job in todo if not (found[job.number].state == "paused" and has_paused(job))]
        self.console.print(f"[dim]{finding.name} · {stage}: {_words(unique, todo)}[/]", highlight=False)
        folder = Path(str(self.cfg.hydra.sweep.dir)) / f"{finding.name}-{stage}"
        alone = 1 if jobs[0].config.measure.exclusive and self.alone else None
        outcomes = carry_out(
            self.console, unique, todo, launch=self.launch, cfg=self.cfg, invocation=folder, at_once=alone
        )
        self._tell_failures(unique, outcomes)
        return jobs, outcomes

    def _tell_failures(self, jobs: Sequence[Job], outcomes: dict[int, Outcome]) -> None:
        bad = [job for job in jobs if not outcomes[job.number].is_result]
        self.failed += len(bad)
        for job in bad[:3]:
            told = f"[red]{outcomes[job.number].state}[/] {job.id}: {escape(outcomes[job.number].cause)}"
            self.console.print(told, highlight=False, soft_wrap=True)


def _words(jobs: Sequence[Job], todo: Sequence[Job]) -> str:
    """`15 runs, 3 finished before`; if some are to pause: `15 runs, 15 of them to 25 % of their steps, …`."""
    if not todo:
        return "all runs finished before"
    pauses = [job.pause for job in jobs if job.pause is not None]
    parts = [f"{pauses.count(share)} of them to {100 * share:g} % of their steps" for share in sorted(set(pauses))]
    return ", ".join(
        [
            f"{len(jobs)} runs",
            *parts,
            f"{len(jobs) - len(todo)} done before" if parts else f"{len(jobs) - len(todo)} finished before",
        ]
    )
