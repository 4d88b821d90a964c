"""A Lightning project of the user's in a run's config. Imports no torch.

It stands in the place of the model, with all its options, so that they decide a run's identity as those of a model do.
What it names is checked by `normlab.project.options`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from normlab.config.components import PROJECT
from normlab.config.errors import InputError


def with_project(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A composed config whose project, if it has one, is in the places of model, task and optimiser.

    Raises:
        InputError: an option doesn't fit a project, or needs one.
    """
    project, metric, mode = (values.pop(name, None) for name in ("project", "metric", "mode"))
    if project is None:
        if metric or mode:
            raise InputError(
                f"{'metric' if metric else 'mode'}=... names what a Lightning project logs: it needs project=..."
            )
        return values
    for override in overrides:
        if (why := why_not(override)) is not None:
            raise InputError(f"{override}: {why}; leave this option out")
    if values["trainer"]["epochs"] is None:
        raise InputError("trainer.epochs has no value: say how long the project trains, as in trainer.epochs=20")
    name = re.sub(r"[^\w.-]", "_", str(project["data"] or project["target"]).rpartition(":")[2]) or "project"
    task = {"name": name, "goal": "own", "source": "own", "view": "own", "input": "", "batch_size": 1, "epochs": 1}
    optim = {"name": "own", "lr": values["optim"]["lr"], "weight_decay": 0.0}
    return {**values, "model": {"_target_": PROJECT, **project}, "task": task, "optim": optim}


def why_not(override: str) -> str | None:
    """Why a project can't take an option such as `task.eval_batch_size=32`; None if it can."""
    key = override.lstrip("+~").partition("=")[0]
    return None if key == "optim.lr" else _REPLACED.get(re.split(r"[.@]", key)[0])


_REPLACED = {
    "model": "a project brings its own network, with project.arguments",
    "task": "a project brings its own data, with project.data_arguments",
    "optim": "a project has its own optimiser, of which only optim.lr can be set",
    "measure": "a project is trained as it is",
}
