"""Checks that a resume point belongs to the run that resumes from it, before its state is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl

from normlab.config.components import PROJECT
from normlab.config.schema import InputError, RunConfig
from normlab.config.task import decisive_options
from normlab.folder.place import Place
from normlab.models.checkpoint import check_fit, read_checkpoint, state_of_task

_PARTS = {"loops": dict, "callbacks": dict, "optimizer_states": list, "lr_schedulers": list}


def check_point(place: Place, config: RunConfig, task: pl.LightningModule, callbacks: Sequence[pl.Callback]) -> None:
    """Check that the resume point has the same config and kinds of state as this run.

    Raises:
        InputError: it belongs to another run, or is damaged.
    """
    assert place.resume is not None
    assert place.resume_checkpoint is not None
    path = place.resume_checkpoint
    checkpoint = read_checkpoint(path)
    record = checkpoint["normlab"]
    was = record.get("config") if isinstance(record, dict) else None
    now = config.model_dump(mode="json")
    if not isinstance(was, dict) or (changed := [key for key in _DECIDE if _science(was, key) != _science(now, key)]):
        what = f"its {changed[0]} is not that of the command" if isinstance(was, dict) else "it records no config"
        raise InputError(f"{path} is not a resume point of this run: {what}; rerun=true starts from the beginning")
    parts = {**_PARTS}
    if config.model["_target_"] != PROJECT:  # whose network may be built later
        check_fit(task, state_of_task(checkpoint, path), path)
        parts["training_log"] = dict
    wrong = [name for name, kind in parts.items() if not isinstance(checkpoint.get(name), kind)]
    if not wrong and checkpoint.get("global_step") != place.resume.step:
        wrong = ["global_step"]
    if not wrong:
        wrong = [c.state_key for c in callbacks if c.state_dict() and c.state_key not in checkpoint["callbacks"]]
    if wrong:
        raise unusable(place, f"it has no usable {wrong[0]}")


def unusable(place: Place, why: str) -> InputError:
    """The error for a damaged resume point."""
    return InputError(f"{place.resume_checkpoint} is damaged: {why}; rerun=true starts from the beginning")


_DECIDE = ("norm", "model", "task", "optim", "seed")


def _science(values: dict[str, Any], key: str) -> Any:
    value = values.get(key)
    if key == "task" and isinstance(value, dict):
        return decisive_options(value)
    return value
