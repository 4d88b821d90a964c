"""What a study is: its findings, and the seeds and steps spent on each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import pydantic
from omegaconf import DictConfig, OmegaConf
from pydantic import Field, PositiveInt, model_validator

from normlab.config.names import FileName
from normlab.config.schema import InputError
from normlab.config.strict import Strict
from normlab.findings.finding import LEAST, Finding, Unit
from normlab.findings.read import find_file, read_findings, read_node
from normlab.runs.validated import gives
from normlab.statements.statement import check_family, read_statements

Kind = TypeVar("Kind", bound=Strict)
FIRST_TUNING_SEED = 1000  # tuning seeds are never reporting seeds


class EarlyEnd(Strict):
    """When tuning runs with the first seeds pause, and how many go on."""

    at: Annotated[float, Field(gt=0, lt=1)]  # share of a run's steps; it pauses at its next validation
    keep: Annotated[float, Field(gt=0, lt=1)]  # share of the points of an arm's grid, the best by then, rounded up


class Scale(Strict):
    """Seeds and choices that a study spends on every finding; `conf/scale`."""

    name: FileName
    findings: Literal["primary", "all"]
    tuning: Literal["reference", "own"]  # rates from the committed table, or tuned first
    tuning_seeds: Annotated[list[PositiveInt], Field(min_length=1)]  # of each point, round by round of the halving
    early_ends: list[EarlyEnd] = Field(default_factory=list)  # empty: every tuning run goes to its end
    drop_failed: bool  # a point whose runs diverged or ended at chance gets no further seeds
    points: PositiveInt | None  # of the tuning grid, its middle ones; null: all
    widen: bool  # go on tuning beyond an end of the grid that is best
    seeds: dict[Unit, Annotated[int, Field(ge=2)]]  # the most reporting seeds, by what a seed stands for
    looks: dict[Unit, list[int] | None] = Field(default_factory=dict)  # null: one look
    alone: bool  # runs that measure times are alone on the machine
    overrides: list[str]  # choices of every run

    @model_validator(mode="after")
    def _rising(self) -> Scale:
        if any(later <= sooner for sooner, later in pairwise(self.tuning_seeds)):
            row = ", ".join(map(str, self.tuning_seeds))
            raise InputError(f"scale.tuning_seeds=[{row}]: each round needs more seeds than the last, such as [1, 3]")
        ends = [(end.at, -end.keep) for end in self.early_ends]
        if any(later[0] <= sooner[0] or later[1] <= sooner[1] for sooner, later in pairwise(ends)):
            raise InputError(
                "scale.early_ends: each pause comes later and keeps fewer points than the one before it, such as "
                "[{at: 0.25, keep: 0.6}, {at: 0.5, keep: 0.4}]"
            )
        for unit, looks in self.looks.items():
            if looks is None:
                continue
            row = ", ".join(map(str, looks))
            if not looks or any(later <= sooner for sooner, later in pairwise(looks)):
                raise InputError(f"scale.looks.{unit}=[{row}]: looks must rise, such as [8, 12, 18, 24]")
            if looks[0] < LEAST[unit]:
                raise InputError(f"scale.looks.{unit}=[{row}]: the first look needs at least {LEAST[unit]} seeds")
            if self.seeds[unit] < looks[0]:
                raise InputError(
                    f"scale.seeds.{unit}={self.seeds[unit]} lies below the first look, {looks[0]} seeds: "
                    f"take more seeds, or other looks"
                )
        return self

    def looks_of(self, finding: Finding) -> tuple[int, ...]:
        """Numbers of seeds at which a finding is judged, the last of them the cap.

        A finding that decides nothing has one, the first, which is enough for an estimate.
        """
        cap, looks = self.seeds[finding.seeds], self.looks.get(finding.seeds)
        if not looks:
            return (cap,)
        return (*(look for look in looks if look < cap), cap) if finding.primary else (looks[0],)

    def reporting(self, finding: Finding) -> list[int]:
        """Seeds of the second stage, up to the last look: 0, 1, … without those on which the recipe was chosen.

        Raises:
            InputError: so many would include tuning seeds.
        """
        most = self.looks_of(finding)[-1]
        seeds = [seed for seed in range(FIRST_TUNING_SEED) if seed not in finding.recipe_seeds]
        if most > len(seeds):
            raise InputError(
                f"scale.seeds.{finding.seeds}={most}: {finding.name} has {len(seeds)} reporting seeds below "
                f"{FIRST_TUNING_SEED}, where the tuning seeds begin"
            )
        return seeds[:most]

    def rounds_of(self, finding: Finding) -> list[int]:
        """Tuning seeds of a point after each round; a finding that decides nothing has the first alone."""
        return self.tuning_seeds if finding.primary else self.tuning_seeds[:1]

    def early_ends_of(self, finding: Finding) -> list[EarlyEnd]:
        """The pauses of its tuning runs; none if it is tuned by what validations don't say."""
        return self.early_ends if finding.tune is not None and gives(finding.tune.by) else []

    def tuning_range(self, finding: Finding) -> list[int]:
        """Seeds of the first stage, of the points that get most."""
        return list(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.rounds_of(finding)[-1]))

    def grid(self, finding: Finding) -> list[float]:
        """The points that tuning starts with."""
        assert finding.tune is not None
        points = finding.tune.points
        count = min(self.points or len(points), len(points))
        first = (len(points) - count) // 2
        return points[first : first + count]


class Study(Strict):
    """Findings that are planned and run together, cheap ones first; `conf/study`."""

    name: FileName
    title: str
    findings: Annotated[list[str], Field(min_length=1)]
    family: bool = False  # its primaries are the six of the textbook
    statements: FileName | None = None  # a file of conf/statements, whose findings must all be this study's


def read_scale(cfg: DictConfig) -> Scale:
    """The chosen scale.

    Raises:
        InputError: one of its values is invalid.
    """
    return _validated(Scale, "scale", OmegaConf.to_container(cfg.scale, resolve=True))


def read_study(conf: Path, name: str, own: Sequence[Path] = ()) -> tuple[Study, list[Finding]]:
    """A study and its findings, in our folder `conf` or in the user's own.

    Raises:
        InputError: there is no such study or finding, a family doesn't have one deciding primary per claim, or its
            statements name findings that it doesn't run.
    """
    study = read_list(conf, name, own)
    findings = read_findings(conf, study.findings, own)
    twice = [name for name, count in Counter(study.findings).items() if count > 1]
    if twice:
        raise InputError(f"conf/study/{name}.yaml: study.findings lists {twice[0]} twice")
    if study.family:
        check_family(f"conf/study/{name}.yaml", findings)
    if not study.family and any(f.primary for f in findings):
        only = next(f.name for f in findings if f.primary)
        raise InputError(f"conf/study/{name}.yaml: {only} is primary and belongs to a study with family: true")
    if study.statements is not None:
        read_statements(conf, study.statements, findings, own)
    return study, findings


def read_list(conf: Path, name: str, own: Sequence[Path] = ()) -> Study:
    """A study alone, without reading the findings that it lists; for arguments and `Raises` see `read_study`."""
    file = find_file("study", name, conf, own)
    return _validated(Study, f"conf/study/{name}.yaml: study", read_node(file, "study"))


def single(finding: Finding) -> Study:
    """One finding as a study of its own."""
    return Study(name=finding.name, title=finding.title, findings=[finding.name])


def _validated(kind: type[Kind], where: str, values: object) -> Kind:
    try:
        return kind.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        key = ".".join([where, *map(str, problem["loc"])])
        if problem["type"] == "extra_forbidden":
            raise InputError(f"there is no option {key}") from None
        if problem["type"] == "missing":
            raise InputError(f"{key} has no value") from None
        if problem["type"] == "value_error":
            raise InputError(str(problem["ctx"]["error"])) from None
        raise InputError(f"{key}={problem['input']!r}: {problem['msg'][:1].lower() + problem['msg'][1:]}") from None
