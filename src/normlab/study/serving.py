"""Which findings and arms a run is evidence for: a run that several findings need is done once, for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from normlab.config.schema import InputError, RunConfig
from normlab.folder.study_folder import studies_below
from normlab.runs.identity import run_id
from normlab.study.stages import Trial

LONGEST = 64  # the longest tag that W&B accepts


class Serving:
    """The trials known so far, by the run that they need."""

    def __init__(self) -> None:
        self._tags: dict[str, list[str]] = {}

    def add(self, trials: Sequence[Trial], configs: Iterable[RunConfig]) -> None:
        """Note the runs that trials with these configs need."""
        for trial, config in zip(trials, configs, strict=True):
            _extend(self._tags.setdefault(_run(config), []), tags_of([trial.finding], [trial.cell.arm]))

    def of(self, config: RunConfig) -> list[str]:
        """The tags `finding:…` and `arm:…` for all findings and arms that this run serves."""
        return list(self._tags.get(_run(config), []))


def read_serving(output: Path) -> dict[str, list[str]]:
    """The same of every run in the tables of the studies below `output`, by the run's id."""
    tags: dict[str, list[str]] = {}
    for study in studies_below(output):
        try:
            rows = study.read_runs()
        except InputError:
            continue  # its study will replace a damaged table
        for row in rows:
            if "id" in row:
                _extend(tags.setdefault(row["id"], []), tags_of([row["finding"]], [row["arm"]]))
    return tags


def tags_of(findings: Iterable[str], arms: Iterable[str] = ()) -> list[str]:
    """As W&B tags."""
    return [tag[:LONGEST] for tag in (*(f"finding:{name}" for name in findings), *(f"arm:{name}" for name in arms))]


def _extend(tags: list[str], more: Iterable[str]) -> None:
    tags += [tag for tag in more if tag not in tags]


def _run(config: RunConfig) -> str:
    """A key that equal runs share. It leaves out the data, which needn't be read: equal options have equal data."""
    return run_id(config, "")
