"""Where an imported study comes from: it resumes only what it was elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from normlab.config.schema import InputError
from normlab.folder.run_folder import RunFolder
from normlab.folder.study_folder import StudyFolder
from normlab.study.planned import PlanRecord
from normlab.study.stages import Trial
from normlab.sweep.plan import Job, changes

_IGNORED = {
    *("output", "cache", "logger", "plan", "serves", "pause", "rerun", "accept_code", "on_error", "debug", "dry"),
    "trust",
}


def record_origin(study: StudyFolder, pack: Path, admitted: Iterable[str]) -> None:
    """Record that a study was imported, and which kinds of differences were admitted."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    study.write_origin({"pack": pack.name, "time": time, "admitted": sorted(admitted)})


def check_origin(plan: PlanRecord, trials: Sequence[Trial], jobs: Callable[[Sequence[Trial]], Sequence[Job]]) -> None:
    """Compare the runs of an imported study with those that are planned here.

    Args:
        plan: of the study, as it was imported.
        jobs: of trials.

    Raises:
        InputError: a config, or the data, is another one here, which was not admitted.
    """
    origin = plan.folder.read_origin()
    admitted = origin.get("admitted")
    if not origin or (isinstance(admitted, list) and ("config" in admitted or "data" in admitted)):
        return
    for job, was in plan.other_runs(trials, jobs(trials)):
        changed = _changes(job, was)
        if changed or not job.config.measure.exclusive:  # times are taken again on every machine
            raise InputError(
                f"{plan.folder.folder} was imported from {origin.get('pack')}, where {job.id} was {was}: "
                f"{changed or 'its data or its number of threads differ'}. Undo the change, import it into a "
                "new output with --accept-config, which has such runs repeated, or start another study with output=..."
            )


def _changes(job: Job, was: str) -> str:
    """The first option that differs, in words; empty if none does, or if the earlier run's record is not here."""
    before = RunFolder.at(Path(job.config.output), was).read_config()
    if not before:
        return ""
    every = changes({"config": before, "code": job.code}, job.config, job.code)
    return next((words for words in every if re.split(r"[. ]", words)[0] not in _IGNORED), "")
