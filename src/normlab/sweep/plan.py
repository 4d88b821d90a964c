"""The frozen plan of a multirun: one file per run, against which the process that does the run checks its config.

<invocation>/jobs/<number>.json          overrides, config, id and code of a run, as planned, and what it serves
<invocation>/jobs/<number>.outcome.json  how it ended
<invocation>/jobs/<number>.log           the traceback of a failure
<invocation>/stop                        an earlier run failed, and no other may start
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from normlab.config.components import code_named
from normlab.config.schema import InputError, RunConfig
from normlab.folder.jsonfile import read_json, write_json
from normlab.runs.code import code_hash
from normlab.runs.identity import run_id
from normlab.runs.run import data_key, data_of, recalled
from normlab.runs.store import folder_of


@dataclass(frozen=True)
class Job:
    """One planned run.

    overrides  its overrides
    varied     the overrides that differ between jobs
    id         its identity, which includes the data
    code       hash of the code that it depends on
    serves     finding:… and arm:… of a study for which it is evidence
    pause      the share of its steps after which it pauses; None: it runs to the end
    """

    number: int
    overrides: list[str]
    varied: list[str]
    config: RunConfig
    id: str
    code: str
    serves: list[str] = field(default_factory=list)
    pause: float | None = None

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return folder_of(Path(self.config.output), self.id)

    @property
    def cell(self) -> str:
        """The varied overrides without the seed."""
        return " ".join(o for o in self.varied if not o.startswith("seed="))


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    state  finished, skipped, diverged, paused, failed, stopped, elsewhere (in another process), not started
    cause  in one line, except for the first three states
    log    file of the traceback
    """

    state: str
    cause: str = ""
    log: str | None = None

    @property
    def is_result(self) -> bool:
        """Has the run come as far as it was launched for? One that diverged or paused has."""
        return self.state in ("finished", "skipped", "diverged", "paused")


def furthest(jobs: Iterable[Job]) -> list[Job]:
    """Each run once, as the job that takes it furthest."""
    found: dict[str, Job] = {}
    for job in jobs:
        if job.id not in found or (job.pause or 1.0) > (found[job.id].pause or 1.0):
            found[job.id] = job
    return list(found.values())


def plan(combinations: Sequence[Sequence[str]], configs: Iterable[RunConfig]) -> list[Job]:
    """The jobs; combinations that lead to the same run share a job.

    Raises:
        InputError: the data of one can't be read.
    """
    return list({job.id: job for job in planned(combinations, configs)}.values())


def planned(combinations: Sequence[Sequence[str]], configs: Iterable[RunConfig]) -> list[Job]:
    """The job of each combination, in order. For `Raises` see `plan`."""
    jobs: dict[str, Job] = {}
    names: list[str] = []
    fingerprints: dict[str, str] = {}
    codes: dict[tuple[Any, ...], str] = {}
    common = set.intersection(*map(set, combinations)) if combinations else set()
    for overrides, asked in zip(combinations, configs, strict=True):
        config = recalled(asked)
        data = data_key(config)
        if data not in fingerprints:
            fingerprints[data] = data_of(config).fingerprint
        against = getattr(config.measure, "against", None)  # the second norm of a timing
        parts = (config.measure.name, *code_named(config.norm, config.model, against))
        if parts not in codes:
            codes[parts] = code_hash(config)
        names.append(run_id(config, fingerprints[data]))
        if names[-1] not in jobs:
            varied = [override for override in overrides if override not in common]
            jobs[names[-1]] = Job(
                number=len(jobs),
                overrides=list(overrides),
                varied=varied,
                config=asked,
                id=names[-1],
                code=codes[parts],
            )
    return [jobs[name] for name in names]


def freeze(job: Job, invocation: Path) -> Path:
    """Write a job's plan, which its process gets as `plan=FILE`."""
    path = invocation / "jobs" / f"{job.number:04}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {"id": job.id, "code": job.code, "serves": job.serves, "pause": job.pause, "overrides": job.overrides}
    write_json(path, {**values, "config": job.config.model_dump(mode="json")}, durable=False)
    return path


def read_plan(plan_file: Path) -> dict[str, Any]:
    """Read a job's plan, which is only compared with the config that the command composes.

    Raises:
        InputError: it can't be read.
    """
    planned = read_json(plan_file)
    serves = planned.get("serves")
    whole = isinstance(planned.get("config"), dict) and isinstance(planned.get("code"), str)
    whole = whole and isinstance(planned.setdefault("pause", None), float | None)
    if not whole or not isinstance(serves, list) or not all(isinstance(tag, str) for tag in serves):
        raise InputError(f"{plan_file}: the plan of this run is damaged; multiruns write it themselves")
    return planned


def changes(planned: dict[str, Any], config: RunConfig, code: str) -> list[str]:
    """What has changed since it was planned, in words."""
    was, now = _flat(planned["config"]), _flat(config.model_dump(mode="json"))
    found = [
        f"{key} was {was.get(key)} and is {now.get(key)}"
        for key in sorted({*was, *now} - {"plan"})
        if was.get(key) != now.get(key)
    ]
    return found if planned["code"] == code else [*found, "the code has been edited"]


def outcome_file(plan_file: Path) -> Path:
    """The file of the outcome of a planned job."""
    return plan_file.with_suffix(".outcome.json")


def write_outcome(plan_file: Path, outcome: Outcome) -> None:
    """Record how a job ended."""
    write_json(outcome_file(plan_file), asdict(outcome), durable=False)


def read_outcome(plan_file: Path) -> Outcome | None:
    """How a job ended; None if it hasn't, if its process died without a record, or if the record is damaged."""
    try:
        return TypeAdapter(Outcome).validate_json(json.dumps(read_json(outcome_file(plan_file))), strict=True)
    except ValidationError:
        return None


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
