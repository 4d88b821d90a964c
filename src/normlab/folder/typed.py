"""Types of the values in a run's JSON files, which may be wrong in a damaged or edited file. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from normlab.folder.jsonfile import parse_json


class Stored(BaseModel):
    """Types of the values in a JSON object, which may hold more."""

    model_config = ConfigDict(strict=True, extra="allow")


class Status(Stored):
    """The values of a status; attempts count from 1."""

    state: str | None = None
    attempt: int = Field(default=1, ge=1)
    code: str | None = None
    torch: str | None = None
    cause: str | None = None
    summary: str | None = None
    config: str | None = None
    rows: str | None = None
    example_scores: str | None = None
    step: int | None = None
    steps: int | None = None
    seconds: float | None = None
    accepted: list[str] = Field(default_factory=list)


class Component(Stored):
    """A norm or a model, with its options."""

    target: str = Field(alias="_target_", pattern=r"\w\.\w")


class Named(Stored):
    """A task or a measure, with its options."""

    name: str = Field(min_length=1)
    against: Component | None = None


class Mirror(Stored):
    """The W&B project of a run or a study."""

    project: str
    entity: str | None = None


class Loggers(Stored):
    """The loggers."""

    wandb: Mirror | None = None


class Config(Stored):
    """What configs of all versions have in common."""

    norm: Component
    model: Component
    task: Named
    measure: Named
    optim: dict[Annotated[str, Field(min_length=1)], Any]
    trainer: dict[Annotated[str, Field(min_length=1)], Any]
    logger: Loggers | None = None
    serves: list[str] = Field(default_factory=list)
    seed: int = Field(default=0, ge=0, lt=2**63)


class Shown(Stored):
    """What W&B shows of a study."""

    logger: Loggers
    study: dict[str, Any]


class Look(Stored):
    """An earlier verdict of a finding."""

    state: str
    n: int = Field(ge=0)
    rule: str


class Looks(Stored):
    """Earlier verdicts, by finding."""

    looks: dict[str, list[Look]] = Field(default_factory=dict)


class Progress(Stored):
    """Steps done, and the total."""

    step: int = Field(ge=0)
    steps: int = Field(ge=0)


def typed(values: dict[str, Any], kind: type[Stored]) -> dict[str, Any]:
    """The values if each has its type; otherwise they are damaged, and the result is empty."""
    try:
        kind.model_validate(values)
    except (ValidationError, RecursionError):
        return {}
    return values


def parse_config(content: bytes) -> dict[str, Any]:
    """A run's config from its file's content; empty if it is damaged."""
    try:
        return typed(parse_json(content), Config)
    except ValueError:
        return {}
