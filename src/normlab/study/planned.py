"""A study's progress, read from its folder while it runs or after it was stopped. Imports no torch.

The plan, which the study writes before its first run:
    findings  name → the finding as it was planned; a user's own has its file elsewhere
    runs      name → stage → how many runs, and of those that are known by now id → code, and which trials they are:
              [arm, condition, point, seed, id]
    seeds     name → recipe, tuning, reporting → the seeds that were used for it, now or by an earlier plan
    early_ends  name → when its tuning runs pause, and which share of an arm's points goes on
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from normlab.config.names import slug
from normlab.config.schema import InputError
from normlab.findings.finding import Finding
from normlab.findings.printable import printable
from normlab.findings.read import read_finding
from normlab.folder.study_folder import StudyFolder
from normlab.runs.store import folder_of, look
from normlab.study.stages import Trial
from normlab.sweep.plan import Job


@dataclass(frozen=True)
class Stage:
    """How many runs of a finding's stage are done.

    name     tune or report
    planned  as far as known: a grid may be widened
    """

    name: str
    planned: int
    done: int = 0
    running: int = 0
    failed: int = 0
    paused: int = 0


class PlanRecord:
    """Writes the plan.

    Args:
        folder: of the study.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = StudyFolder(folder)
        recorded = self.folder.read_plan()
        self._findings: dict[str, Any] = dict(_mapping(recorded.get("findings")))
        self._runs: dict[str, Any] = dict(_mapping(recorded.get("runs")))
        self._seeds: dict[str, Any] = dict(_mapping(recorded.get("seeds")))
        self._early_ends: dict[str, Any] = dict(_mapping(recorded.get("early_ends")))

    def use_seeds(self, finding: Finding, tuning: Iterable[int], reporting: Iterable[int]) -> None:
        """Note what each seed of a finding is used for; what an earlier plan used them for stays.

        Raises:
            InputError: a reporting seed has been used to choose the recipe or to tune.
        """
        before = _mapping(self._seeds.get(finding.name))
        new = {"recipe": finding.recipe_seeds, "tuning": tuning, "reporting": reporting}
        used = {use: {*seeds, *(s for s in _list(before.get(use)) if type(s) is int)} for use, seeds in new.items()}
        for use in ("recipe", "tuning"):
            if both := sorted(used[use] & set(reporting)):
                what = "choose the recipe" if use == "recipe" else "tune"
                raise InputError(
                    f"conf/finding/{finding.name}.yaml: seed {both[0]} was used to {what} ({self.folder.plan_file}) "
                    "and can't be reported on: list such seeds as recipe_seeds, or start again with another output=..."
                )
        self._seeds[finding.name] = {use: sorted(seeds) for use, seeds in used.items()}

    def use_early_ends(self, finding: Finding, ends: Sequence[Mapping[str, float]]) -> None:
        """Note the rule by which tuning runs are ended early.

        Raises:
            InputError: the finding's tuning has begun by another rule.
        """
        before = self._early_ends.get(finding.name, [])
        if before != list(ends) and _mapping(_mapping(self._runs.get(finding.name)).get("tune")).get("ids"):
            rule = ", ".join("{" + ", ".join(f"{k}: {v}" for k, v in end.items()) + "}" for end in before)
            raise InputError(
                f"the tuning of {finding.name} began with scale.early_ends=[{rule}] ({self.folder.plan_file}), which "
                "decides which points go on: use it again, or start again with another output=..."
            )
        self._early_ends[finding.name] = list(ends)

    def plan(self, findings: Sequence[Finding], sizes: Mapping[str, Mapping[str, int]]) -> None:
        """Record what will be run; runs of an earlier plan stay in it.

        Args:
            sizes: finding → stage → number of runs.
        """
        self._findings |= {finding.name: finding.model_dump(mode="json") for finding in findings}
        for name, stages in sizes.items():
            before = _mapping(self._runs.get(name))
            self._runs[name] = {stage: self._stage(before, stage, count) for stage, count in stages.items()}
        self._write()

    @staticmethod
    def _stage(before: Mapping[str, Any], stage: str, count: int) -> dict[str, Any]:
        known = _mapping(before.get(stage))
        ids = _mapping(known.get("ids"))
        return {**known, "planned": count} if len(ids) <= count else {"planned": count, "ids": {}}

    def begin(self, finding: Finding, stage: str, trials: Sequence[Trial], jobs: Sequence[Job]) -> None:
        """Record which runs a stage has: the job of each trial."""
        ids = {job.id: job.code for job in jobs}
        asked = [[*_trial(trial), job.id] for trial, job in zip(trials, jobs, strict=True)]
        self._runs.setdefault(finding.name, {})[stage] = {"planned": len(ids), "ids": ids, "trials": asked}
        self._write()

    def other_runs(self, trials: Sequence[Trial], jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        """The jobs of trials for which another run is recorded, and that run's id."""
        known: dict[tuple[Any, ...], str] = {}
        for finding, stage in {(trial.finding, trial.stage) for trial in trials}:
            asked = _mapping(_mapping(self._runs.get(finding)).get(stage)).get("trials", [])
            for entry in asked if isinstance(asked, list) else []:
                if isinstance(entry, list) and all(isinstance(part, str | int | float | None) for part in entry):
                    known[(finding, stage, *entry[:-1])] = str(entry[-1])
        for trial, job in zip(trials, jobs, strict=True):
            was = known.get((trial.finding, trial.stage, *_trial(trial)), job.id)
            if was != job.id:
                yield job, was

    def _write(self) -> None:
        self.folder.write_plan(
            {"findings": self._findings, "runs": self._runs, "seeds": self._seeds, "early_ends": self._early_ends}
        )


def read_progress(folder: Path) -> dict[str, list[Stage]]:
    """The progress of every stage, for each finding that a study has planned.

    Args:
        folder: of the study, `<output>/studies/<name>`.
    """
    study = StudyFolder(folder)
    found = {}
    for name, stages in _mapping(study.read_plan().get("runs")).items():
        found[str(name)] = [_stage(study.output, str(stage), _mapping(v)) for stage, v in _mapping(stages).items()]
    return found


def planned_findings(folder: Path, problems: list[str] | None = None) -> dict[str, Finding]:
    """A study's findings as they were planned; those that can't be read are left out, and named in `problems`."""
    found = {}
    for name, values in _mapping(StudyFolder(folder).read_plan().get("findings")).items():
        try:
            finding = Finding.model_validate_json(json.dumps(printable(values)), strict=True)
        except (pydantic.ValidationError, InputError):
            finding = None
        if finding is not None and finding.name == name:
            found[finding.name] = finding
        elif problems is not None:
            shown = printable(str(name))[:100]
            problems.append(
                f"{StudyFolder(folder).plan_file}: finding {shown!r} is damaged or "
                "from another version and is left out."
            )
    return found


def finding_of(folder: Path, name: str, conf: Path) -> Finding:
    """A finding of a study: its file in `conf` or, if there is none, the finding as the study planned it.

    Raises:
        InputError: neither can be read.
    """
    path = conf / "finding" / f"{name}.yaml"
    recorded = {} if path.exists() else planned_findings(folder)
    return recorded[name] if name in recorded else read_finding(path)


def _stage(output: Path, name: str, values: Mapping[str, Any]) -> Stage:
    planned = values.get("planned", 0)
    states = []
    for run, code in _mapping(values.get("ids")).items():
        if slug(run, len(run)) != run:  # not a run's id, and as a path it could lead outside the folder
            continue
        found = look(folder_of(output, run), str(code))
        ended = found.status.get("state")
        states.append("failed" if found.state in ("partial", "foreign") and ended == "failed" else found.state)
    return Stage(
        name,
        planned if isinstance(planned, int) else 0,
        done=states.count("finished"),
        running=states.count("running"),
        failed=states.count("failed"),
        paused=states.count("paused"),
    )


def _list(values: Any) -> list[Any]:
    """A part of a file that may be damaged."""
    return values if isinstance(values, list) else []


def _trial(trial: Trial) -> list[Any]:
    return [trial.cell.arm, trial.cell.condition, trial.point, trial.seed]


def _mapping(values: Any) -> Mapping[str, Any]:
    """A part of a file that may be damaged."""
    return values if isinstance(values, dict) else {}
