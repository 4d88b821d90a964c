"""A run's identity: when two runs are the same run. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from normlab.config.components import decisive
from normlab.config.names import slug
from normlab.config.schema import SHOWN_OR_SAVED, RunConfig, TrainerConfig
from normlab.config.task import decisive_options
from normlab.runs.provenance import graphics, processor


def science(config: RunConfig) -> dict[str, Any]:
    """The part of a config that decides a run's result: without paths, loggers, and options for progress and saves."""
    values = config.model_dump(mode="json", include={"norm", "model", "task", "optim", "seed", "test"})
    values["model"] = decisive(config.model)
    values["task"] = decisive_options(values["task"])
    trainer = config.trainer.model_dump(mode="json", exclude=SHOWN_OR_SAVED)
    trainer["threads"] = config.threads
    options = config.measure.model_dump(mode="json", exclude={"name"})
    where = _named("machine", timed_on(config.trainer)) if config.measure.exclusive else {}
    return {**values, "trainer": trainer, "measure": config.measure.name, **_named("measure", options), **where}


def timed_on(trainer: TrainerConfig) -> dict[str, str | None]:
    """What times depend on besides the options: the processor, the GPU if it is used, and torch's version."""
    gpu = graphics() if trainer.accelerator == "gpu" else None
    return {"processor": processor(), "gpu": gpu, "torch": version("torch")}


def _named(group: str, options: dict[str, Any]) -> dict[str, Any]:
    """`{"steps": 0}` → `{"measure.steps": 0}`."""
    return {f"{group}.{name}": value for name, value in options.items()}


def run_id(config: RunConfig, data: str) -> str:
    """The run's name: a readable part, then a hash that makes it unique.

    Args:
        config: a checked config
        data: the fingerprint of the data, from any source
    """
    checkpoint = hashlib.sha256(Path(config.ckpt).read_bytes()).hexdigest() if config.ckpt else None
    text = json.dumps([science(config), data, checkpoint], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:10]
    names = "-".join(slug(name, 40) for name in (config.model_name, config.norm_name, config.task.name))
    return f"{names}-{config.seed}-{digest}"
