"""What makes two runs the same run. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from normlab.schema import RunConfig


def science(config: RunConfig) -> dict[str, Any]:
    """The part of a config that decides a run's result: no paths, no loggers, no way of showing or saving progress."""
    values = config.model_dump(mode="json", include={"norm", "model", "task", "optim", "seed", "test"})
    values["task"] = {k: v for k, v in values["task"].items() if k not in _ELSEWHERE}
    trainer = config.trainer.model_dump(mode="json", exclude=_SHOWN_OR_SAVED)
    trainer["threads"] = trainer["threads"] or os.cpu_count()
    options = config.measure.model_dump(mode="json", exclude={"name"})
    return {**values, "trainer": trainer, "measure": config.measure.name, **_named("measure", options)}


def _named(group: str, options: dict[str, Any]) -> dict[str, Any]:
    """`{"steps": 0}` → `{"measure.steps": 0}`."""
    return {f"{group}.{name}": value for name, value in options.items()}


# where the data lie, which their fingerprint stands for; defaults of the trainer, which says what is done
_ELSEWHERE = ("path", "hub", "source", "epochs", "steps", "validations")
_SHOWN_OR_SAVED = {"log_every", "progress", "save_steps", "save_minutes"}


def run_id(config: RunConfig, data: str) -> str:
    """The run's name: readable in front, unique by the hash behind.

    Args:
        config: a checked config
        data: the fingerprint of the data, whichever source they come from
    """
    checkpoint = hashlib.sha256(Path(config.ckpt).read_bytes()).hexdigest() if config.ckpt else None
    text = json.dumps([science(config), data, checkpoint], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    return f"{config.model_name}-{config.norm_name}-{config.task.name}-{config.seed}-{digest}"
