"""A study: plan everything, tune each cell, run the reporting seeds, and print each verdict as soon as it is known."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from normlab.comparing.feasible import check_networks
from normlab.config.schema import InputError, RunConfig
from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.judge import judge, undecided
from normlab.findings.stored import read_verdicts
from normlab.findings.tuning import TuningScores
from normlab.findings.verdict import NOT_JUDGED, Reason, Verdict
from normlab.folder.example_scores import decode_each
from normlab.folder.study_folder import StudyFolder
from normlab.statements.table import lacking_words
from normlab.study.budget import budget_words, chances, looks_words
from normlab.study.choices import chosen, scale_of, to_run
from normlab.study.halving import Runs, expected_trials, first_round, steps_words, tune
from normlab.study.ledger import Ledger
from normlab.study.logged import check_metrics, check_tuning
from normlab.study.origin import check_origin
from normlab.study.printed import print_finding, print_study, print_unrun
from normlab.study.reference import reference_scores
from normlab.study.runner import Runner
from normlab.study.scale import Scale, Study
from normlab.study.stages import Trial, reporting_trials, rows_of, score_records, training_curves
from normlab.study.tracked import mirror
from normlab.sweep.dry import Compose, stand_in, with_cache
from normlab.sweep.estimate import estimate, steps_of_job
from normlab.sweep.multirun import Launch, check_launcher, is_missing, look_up, side_by_side
from normlab.sweep.paused import standing
from normlab.sweep.plan import furthest


def conduct(
    cfg: DictConfig, arguments: Sequence[str], composer: Compose, launch: Launch, conf: Path = CONF
) -> list[Verdict]:
    """Run whatever is missing from a study, and print its verdicts.

    Args:
        cfg: the multirun's own config, which holds `study` or `finding`, and `scale`.
        arguments: command-line overrides.
        composer: turns overrides into checked configs.
        launch: Hydra's launcher.
        conf: folder that holds `finding` and `study`.

    Raises:
        InputError: a finding, the scale or an option is invalid; nothing has been run.
        SystemExit: a run failed (1), or the study was stopped (130, 143).
    """
    if cfg.dry:
        with stand_in(Path(str(cfg.cache))) as cache:
            conductor, run, _ = _checked(cfg, arguments, with_cache(composer, cache), launch, conf)
            conductor.dry(run)
        return []
    started = time.monotonic()
    check_launcher(cfg)
    conductor, run, left = _checked(cfg, arguments, composer, launch, conf)
    scale = conductor.scale
    conductor.foresee(run)
    conductor.ledger.planned.plan(run, {finding.name: conductor.sizes(finding) for finding in run})
    verdicts = [conductor.carry_out(finding, started) for finding in run]
    if not cfg.get("compare"):  # whose result is a table of its own
        seconds = time.monotonic() - started
        print_study(conductor.console, list(zip(run, verdicts, strict=True)), scale.name, seconds)
        print_unrun(conductor.console, left, scale.name)
    conductor.show(run)
    conductor.console.print(f"results: {conductor.ledger.folder}", highlight=False, soft_wrap=True, markup=False)
    if not cfg.get("compare"):
        conductor.console.print("next: make report", highlight=False)
    if conductor.runner.failed:
        print(f"{conductor.runner.failed} runs failed; the same command repeats them", file=sys.stderr)
        sys.exit(1)
    return verdicts


def _checked(
    cfg: DictConfig, arguments: Sequence[str], composer: Compose, launch: Launch, conf: Path
) -> tuple[Conductor, list[Finding], list[Finding]]:
    """The conductor, the findings that run at this scale, and those that don't."""
    study, findings, user = chosen(cfg, conf, arguments)
    scale, notes = scale_of(cfg)
    conductor = Conductor(cfg=cfg, study=study, scale=scale, user=user, composer=composer, launch=launch)
    run, left = to_run(findings, scale)
    if not run:
        other = "scale=full" if any("full" in finding.scales for finding in findings) else "scale=paper"
        if any(scale.name in finding.scales for finding in findings):
            other = f"scale.findings=all, because only primary findings run at {scale.name}"
        raise InputError(f"no finding of {study.name} runs at scale={scale.name}; use {other}")
    conductor.check(run)
    for line in (f"{study.title} · scale={scale.name}", *notes):
        conductor.console.print(line, highlight=False, soft_wrap=True, markup=False)
    kept = StudyFolder(conductor.ledger.folder)
    for line in lacking_words(run, read_verdicts(kept.read_judged(), kept.verdicts_file, [])):
        conductor.console.print(line, highlight=False, soft_wrap=True, markup=False)
    return conductor, run, left


@dataclass
class Conductor:
    """Runs and judges findings one after the other.

    user    command-line overrides
    runner  does the runs, once the ledger is known
    """

    cfg: DictConfig
    study: Study
    scale: Scale
    user: list[str]
    composer: Compose
    launch: Launch
    console: Console = field(default_factory=Console)

    def __post_init__(self) -> None:
        folder = StudyFolder.at(Path(str(self.cfg.output)), f"{self.study.name}-{self.scale.name}").folder
        self.ledger = Ledger(folder, self.scale.name)
        self.runner = Runner(
            cfg=self.cfg,
            composer=self.composer,
            launch=self.launch,
            console=self.console,
            plan=self.ledger.planned,
            alone=self.scale.alone,
        )

    def check(self, findings: Sequence[Finding]) -> None:
        """Compose every cell and check that its metrics exist, before anything runs.

        Raises:
            InputError: a cell is invalid, a metric is logged by no run, no rate is known, or a rule has changed.
        """
        for finding in findings:
            self.ledger.check_rule(finding)
            tuning = self.scale.tuning_range(finding) if finding.tune is not None else []
            self.ledger.planned.use_seeds(finding, tuning, self.scale.reporting(finding))
            if self.scale.tuning == "own":
                ends = [end.model_dump() for end in self.scale.early_ends_of(finding)]
                self.ledger.planned.use_early_ends(finding, ends)
            try:
                configs = self._configs_by_cell(finding)
                check_metrics(finding, configs)
                if finding.rule == "comparison":
                    check_networks({cell.arm: config for cell, config in configs.items()})
                if finding.tune is not None:
                    # tuning runs may measure something else than reporting ones
                    same = not any(choice.startswith("measure=") for choice in finding.report)
                    tuned = finding.model_copy(update={"report": []})
                    check_tuning(finding.tune.by, configs if same else self._configs_by_cell(tuned))
            except InputError as error:
                where = "compare" if finding.rule == "comparison" else f"conf/finding/{finding.name}.yaml"
                raise InputError(f"{where}: {error}") from None
            if finding.tune is not None and self.scale.tuning == "reference":
                reference_scores(finding, self.scale, REFERENCE)

    def _configs_by_cell(self, finding: Finding) -> dict[Cell, RunConfig]:
        """The config of each cell's first reporting run."""
        trials = reporting_trials(finding, self.scale, self._stand_in_points(finding), self.user)
        first = {trial.cell: trial for trial in trials}
        return dict(zip(first, self.runner.configs(list(first.values())), strict=True))

    def dry(self, findings: Sequence[Finding]) -> None:
        """Say what would be run, how long it would take and how large it would get; with tuning, an upper bound."""
        trials = [trial for finding in findings for trial in self._stages(finding)]
        every = self.runner.jobs(trials)
        jobs = furthest(every)
        found = look_up(jobs)
        todo = [job for job in jobs if is_missing(job, found[job.number])]
        finished = len(jobs) - len(todo)
        self.console.print(f"{len(findings)} findings, {len(jobs)} runs, {finished} finished", highlight=False)
        lines = looks_words(self.scale, findings) + budget_words(trials, every, steps_of_job)
        if self.scale.widen and self.scale.tuning == "own":
            lines.append("a grid whose end is best is widened, by two points at either end at most")
        for line in lines:
            self.console.print(line, highlight=False, soft_wrap=True)
        side = side_by_side(self.cfg, jobs[0].config.trainer.threads)
        estimate(self.console, jobs, todo, side, chances(findings, self.scale, trials, every))

    def _stages(self, finding: Finding) -> list[Trial]:
        """All runs that the finding may have, if its grid isn't widened."""
        own = finding.tune is not None and self.scale.tuning == "own"
        tuning = expected_trials(finding, self.scale, self.user) if own else []
        return tuning + reporting_trials(finding, self.scale, self._stand_in_points(finding), self.user)

    def foresee(self, findings: Sequence[Finding]) -> None:
        """Note all runs that are known in advance, because a finding may share runs with a later one."""
        for finding in findings:
            trials = self._foreseen(finding)
            self.runner.serving.add(trials, self.runner.configs(trials))
            check_origin(self.ledger.planned, trials, self.runner.jobs)

    def _foreseen(self, finding: Finding) -> list[Trial]:
        """The trials that don't depend on the finding's own tuning."""
        if finding.tune is None:
            return reporting_trials(finding, self.scale, dict.fromkeys(finding.cells), self.user)
        if self.scale.tuning == "own":
            return first_round(finding, self.scale, self.user)
        points = _chosen(finding, reference_scores(finding, self.scale, REFERENCE))
        return reporting_trials(finding, self.scale, points, self.user)

    def sizes(self, finding: Finding) -> dict[str, int]:
        """How many runs each stage will have."""
        stages: dict[str, set[tuple[str, ...]]] = {}
        for trial in self._stages(finding):
            stages.setdefault(trial.stage, set()).add(tuple(sorted(trial.choices)))
        return {stage: len(asked) for stage, asked in stages.items()}

    def carry_out(self, finding: Finding, started: float) -> Verdict:
        """Tune, run, judge and print one finding; an error in it doesn't stop the other findings."""
        try:
            verdict = self._judged(finding)
        except InputError as error:
            verdict = undecided(finding, self.scale.name, Reason.UNUSABLE, problem=str(error))
        self.ledger.save(finding, verdict)
        if finding.name in self.ledger.kept_before:
            self.console.print(f"[dim]{finding.name}: the records keep the earlier results, which have more runs[/]")
        print_finding(self.console, verdict, finding, time.monotonic() - started)
        return verdict

    def show(self, findings: Sequence[Finding]) -> None:
        """Show the study in W&B, if its runs are logged there."""
        trial = self._foreseen(findings[0])[0]
        (config,) = self.runner.configs([trial])
        if config.logger.wandb is not None:
            mirror(self.ledger.folder, findings, config.logger.wandb)

    def _judged(self, finding: Finding) -> Verdict:
        """Run both stages, and apply the rule at each look until it decides.

        Raises:
            InputError: no tuning run of a cell has a result, or a run lacks the metric.
        """
        tuned: list[dict[str, Any]] = []
        points: dict[Cell, float | None] = dict.fromkeys(finding.cells)
        edges: dict[Cell, bool] = {}
        if finding.tune is not None:
            if self.scale.tuning == "reference":
                curves = reference_scores(finding, self.scale, REFERENCE)
            else:
                curves, tuned = self._tuned(finding)
            points |= _chosen(finding, curves)
            edges = {cell: curves[finding.tuned_at(cell)].edge != 0 for cell in finding.cells}
        looks = self.scale.looks_of(finding)
        for look in looks:
            trials = reporting_trials(finding, self.scale, points, self.user, look=look)
            jobs, outcomes = self.runner.run(finding, "report", trials)
            rows, scores = rows_of(trials, jobs, outcomes), score_records(finding, jobs)
            self.ledger.keep(finding, [*tuned, *rows], training_curves(trials, jobs), scores)
            verdict = judge(finding, rows, look, self.scale.name, edges, looks=looks, scores=decode_each(scores))
            verdict = self.ledger.looked(finding, verdict)
            if verdict.state != "undecided" or verdict.reason in NOT_JUDGED or look == looks[-1]:
                break
            self.console.print(
                f"[dim]{finding.name}: open after {look} of at most {looks[-1]} seeds[/]", highlight=False
            )
        return verdict

    def _tuned(self, finding: Finding) -> tuple[dict[Cell, TuningScores], list[dict[str, Any]]]:
        """The scores of every cell, and the rows of the runs that gave them.

        Raises:
            InputError: a tuning run has no result.
        """
        assert finding.tune is not None
        tuning = finding.tune
        worst = -math.inf if tuning.best == "max" else math.inf

        def run(trials: list[Trial]) -> list[dict[str, Any]]:
            jobs, outcomes = self.runner.run(finding, "tune", trials)
            return rows_of(trials, jobs, outcomes, keep=[tuning.by, "steps"])

        def stand(trials: list[Trial], share: float) -> float | None:
            return standing(self.runner.jobs(trials), share, tuning.by, worst)

        curves, rows = tune(finding, self.scale, self.user, Runs(run, stand))
        for line in steps_words(rows):
            self.console.print(f"[dim]{finding.name} · tuned: {line}[/]", highlight=False, soft_wrap=True)
        return curves, rows

    def _stand_in_points(self, finding: Finding) -> dict[Cell, float | None]:
        """Points before tuning has found them: the middle of the grid."""
        grid = self.scale.grid(finding) if finding.tune is not None else [None]
        return dict.fromkeys(finding.cells, grid[len(grid) // 2])


def _chosen(finding: Finding, curves: Mapping[Cell, TuningScores]) -> dict[Cell, float | None]:
    return {cell: curves[finding.tuned_at(cell)].chosen for cell in finding.cells}
