"""A project on W&B's server: `wandb:entity/project`, or its address in the browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlparse

from normlab.config.schema import InputError, WandbConfig
from normlab.logs.run import Run, flat, number_of
from normlab.logs.wandb_folders import step_of
from normlab.mirror.wandb_access import check_access, connect, server

_PROJECT = re.compile(r"([^/\s]+)/([^/\s?]+)(?:/(?:runs|workspace|table).*)?/?(?:\?.*)?")
SECONDS = 30
PAGE = 1000  # rows of history for each request


def is_address(text: str) -> bool:
    """Is it meant as one? Otherwise it is a file or a folder."""
    return text.startswith(("wandb:", "http://", "https://"))


def read(address: str, curves: bool) -> Iterator[Run]:
    """The project's runs.

    Args:
        address: of the project.
        curves: read every logged value, not the summary alone, which takes a request or more for each run.

    Raises:
        InputError: it is no project, there is no key, or the server does not answer.
    """
    entity, project = _project(address)
    check_access(WandbConfig(project=project, entity=entity, mode="online"))
    try:
        for run in connect(SECONDS).runs(f"{entity}/{project}", per_page=200):
            yield _run(run, curves)
    except InputError:
        raise
    except Exception as error:  # W&B's client raises errors of many kinds
        raise InputError(f"W&B: {entity}/{project} can't be read: {' '.join(str(error).split())[:200]}") from None


def _project(address: str) -> tuple[str, str]:
    place = address.removeprefix("wandb:")
    if place.startswith(("http://", "https://")):
        host = urlparse(place).hostname or ""
        if host != server().removeprefix("api."):
            raise InputError(f"{address} is not on {server()}, W&B's server here: set WANDB_BASE_URL to that of {host}")
        place = urlparse(place).path.lstrip("/")
    found = _PROJECT.fullmatch(place)
    if found is None:
        raise InputError(f"{address} is no project: write wandb:entity/project")
    return found[1], found[2]


def _run(run: Any, curves: bool) -> Run:
    facts = {"name": run.name, "group": run.group, "job_type": run.job_type, "state": run.state}
    config = {key: value for key, value in run.config.items() if not key.startswith("_")}
    made = Run(f"{run.entity}/{run.project}/{run.id}", {k: v for k, v in facts.items() if v} | flat(config))
    if curves:
        for row in run.scan_history(page_size=PAGE):
            for name, value in flat(row).items():
                made.log(name, value, step_of(row))
    step = number_of(dict(run.summary).get("_step"))
    for name, value in flat(dict(run.summary)).items():
        if name not in made.curves:
            made.log(name, value, float("nan") if step is None else step)
    return made
