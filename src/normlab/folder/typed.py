"""Types of what a run's JSON files hold, which a damaged or hand-made file may lack. Imports no torch."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class Stored(BaseModel):
    """Types of the values in a JSON object, which may hold more."""

    model_config = ConfigDict(strict=True, extra="allow")


class Status(Stored):
    """What a status holds; an attempt counts from 1."""

    state: str | None = None
    attempt: int = Field(default=1, ge=1)
    code: str | None = None
    torch: str | None = None
    cause: str | None = None
    summary: str | None = None
    accepted: list[str] = Field(default_factory=list)


class Progress(Stored):
    """Steps done, and steps in all."""

    step: int = Field(ge=0)
    steps: int = Field(ge=0)


def typed(values: dict[str, Any], kind: type[Stored]) -> dict[str, Any]:
    """The values if each has its type; otherwise they are damaged, and none is given."""
    try:
        kind.model_validate(values)
    except ValidationError:
        return {}
    return values
