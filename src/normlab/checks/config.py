"""From Hydra's composed config to a `RunConfig` that can run. Imports no torch.

Types and ranges are checked first, then the options of the norm and the model against their constructors, then
whatever depends on the whole config.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pydantic
from omegaconf import DictConfig, OmegaConf

from normlab.checks.project import with_project
from normlab.config.components import (
    MODULE,
    PROJECT,
    canonical,
    check_network,
    check_schedule,
    check_single,
    check_sites,
    checked_options,
    kind_of,
    lower,
    shown,
)
from normlab.config.errors import InputError
from normlab.config.placement import check_placed, with_norms
from normlab.config.schema import RunConfig, TaskConfig
from normlab.config.signature import Signature
from normlab.host.cores import memory_of_machine, usable_cores

_TAKES = {
    **{"images": "images", "features": "sequences of features", "tokens": "sequences of tokens"},
    "table": "rows of a table",
}
_MODELS = {
    **{"images": "cnn or mlp", "features": "lstm or transformer", "tokens": "lstm or transformer"},
    "table": "mlp, or module with a network of yours",
}
_TASKS = {
    "images": "fashion_mnist or cifar10",
    "features": "fashion_rows or wrist_motion",
    "tokens": "word_stress, union or author",
    "table": "table_files",
}


def checked(cfg: DictConfig, overrides: Sequence[str] = (), launcher: str | None = None) -> RunConfig:
    """The complete, checked config.

    Args:
        cfg: what Hydra composed
        overrides: the command line's own overrides, such as `norm=batch`
        launcher: the launcher that starts it, if it is one run of a multirun

    Raises:
        InputError: a value has the wrong type or range, or the options don't fit each other.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        modules = ("model.target", "project.target")
        example = "my_package.nets:UNet or nets.py:UNet" if missing[0] in modules else "..."
        raise InputError(f"{missing[0]} has no value: set it with {missing[0]}={example}")
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    # no single run depends on these
    _, *beyond, _ = (values.pop(key, None) for key in ("scale", "finding", "study", "compare", "margin"))
    if not any(beyond) and (scale := next((text for text in overrides if text.startswith("scale=")), None)):
        raise InputError(f"{scale} sets how large a study is: choose one too, such as study=textbook or finding=...")
    values = with_project({str(name): value for name, value in values.items()}, overrides)
    if OmegaConf.select(cfg, "measure.name") == "evaluate" and OmegaConf.select(cfg, "task.path"):
        values["task"]["source"] = "path"  # options of the checkpoint's task, which `recall` uses instead of this one
    try:
        # JSON has no tuples, so a list is accepted for one; nothing else is converted
        config = RunConfig.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        raise InputError(_worded(error)) from None
    _check_command(config, overrides, launcher)
    norm = checked_options("norm", config.norm)
    if config.model["_target_"] == PROJECT:
        if norm.constants.get("in_loss"):
            raise InputError(
                f"norm={config.norm_name} adds terms to the loss, which a Lightning project computes itself: use "
                "norm=batch, or model=module for its network"
            )
        check_schedule(config, norm)
        _check_machine(config)
        return config
    if config.measure.name == "project" or config.optim.lr is None:
        raise InputError("measure=project trains a Lightning project: name it with project=MODULE:CLASS")
    model = checked_options("model", config.model)
    config = config.model_copy(update={"model": with_norms(canonical(config.model, model))})
    _check_data(config.task)
    _check_kind(config, model)
    if config.model["_target_"] == MODULE:
        check_network(config.model, kind_of(config.task))
    check_sites(config, norm, model)
    check_schedule(config, norm)
    check_placed(config, model)
    _check_batch(config, model)
    config.measure.check(config, model)
    check_size(config)
    _check_machine(config)
    return config


def _check_machine(config: RunConfig) -> None:
    """Can this machine run it, and hold its results?"""
    _check_trainer(config)
    _check_measure(config)
    _check_folder("output", config.output)
    _check_folder("cache", config.cache)


def _worded(error: pydantic.ValidationError) -> str:
    problem = error.errors()[0]
    if not problem["loc"]:  # the config can't be read as JSON
        return "a value contains bytes that are not UTF-8: rename the file or folder it refers to"
    group, *path = problem["loc"]
    if group == "measure":
        del path[:1]  # the measure's name
    key = ".".join(str(part) for part in (group, *path))
    if problem["type"] == "extra_forbidden":
        return f"there is no option {key}. `--cfg job` prints them all."
    if problem["type"] == "missing":
        return f"{key} has no value: set it with {key}=..."
    if problem["type"] == "value_error":  # the message of one of our own validators
        return str(problem["ctx"]["error"])
    return f"{key}={shown(problem['input'])}: {lower(problem['msg'])}."


def _check_command(config: RunConfig, overrides: Sequence[str], launcher: str | None) -> None:
    """Do the options fit the measure and the launcher?"""
    if config.measure.reads_checkpoint:
        name = config.measure.name
        if config.ckpt is None:
            raise InputError(f"measure={name} needs a checkpoint: ckpt=outputs/runs/<id>/checkpoints/best.ckpt")
        if not _there(config.ckpt, Path.is_file):
            kind = "this is not a regular file" if _there(config.ckpt, Path.exists) else "there is no such file"
            if _there(config.ckpt, Path.is_dir):
                kind = "this is a folder; give a file, such as checkpoints/best.ckpt in a run's folder"
            raise InputError(f"ckpt={_cut(config.ckpt)}: {kind}")
        own = [o for o in overrides if o.lstrip("+~").split("=")[0].split(".")[0] in _OF_CHECKPOINT]
        own = [o for o in own if not o.startswith("task.path=")]
        if own:
            raise InputError(
                f"{own[0]}: measure={name} takes norm, model, task and seed from the checkpoint; leave this option out"
            )
    elif config.ckpt is not None or config.trust:
        raise InputError(f"{'trust' if config.ckpt is None else 'ckpt'}=... works only with measure=evaluate")
    if launcher not in (None, "slurm") and config.trainer.processes > 1:
        raise InputError(
            f"runs with several processes don't work with launcher={launcher}, "
            "where each would start the whole multirun "
            "again: use launcher=slurm, where a run's processes are tasks of its job, or start one run at a time, "
            "python train.py trainer=ddp ..."
        )


_OF_CHECKPOINT = ("norm", "model", "task", "optim", "seed")


def _check_data(task: TaskConfig) -> None:
    """Do the paths of the data exist?"""
    for option, path, place in (("path", task.path, task.place), ("test", task.test, task.test_place)):
        if task.source == "path" and place is not None and not _there(str(place), Path.exists):
            hint = "; only the shell expands $NAMES" if "$" in str(path) else ""
            raise InputError(f"task.{option}={_cut(str(path))}: there is no such file or folder{hint}")


def _there(path: str, asked: Callable[[Path], bool]) -> bool:
    try:
        return bool(path) and asked(Path(path))
    except (OSError, ValueError):  # no file can have such a name
        return False


def _check_kind(config: RunConfig, model: Signature) -> None:
    """Does the model accept the task's kind of input?"""
    kind = kind_of(config.task)
    if kind in model.constants["kinds"]:
        if config.task.goal == "segmentation" and not model.constants.get("dense"):
            raise InputError(
                f"model={config.model_name} gives one output per image, and segmentation needs one per pixel: use "
                "model=cnn, or model=module with a network whose output is [B, classes, H, W]"
            )
        return
    if unknown := sorted(set(model.constants["kinds"]) - set(_TAKES)):
        raise InputError(f"model={config.model_name}: kinds has {unknown[0]!r}; there are {', '.join(_TAKES)}")
    takes = " or ".join(_TAKES[name] for name in model.constants["kinds"])
    tasks = " or ".join(_TASKS[name] for name in model.constants["kinds"])
    raise InputError(
        f"model={config.model_name} takes {takes}, and task={config.task.name} gives {_TAKES[kind]}: "
        f"choose model={_MODELS[kind]}, or a task such as {tasks}"
    )


def _check_batch(config: RunConfig, model: Signature) -> None:
    task, trainer = config.task, config.trainer
    world = trainer.processes
    if task.batch_size % world:
        raise InputError(
            f"task.batch_size={task.batch_size} is the batch size over all processes and can't be divided "
            f"evenly among {world}: use {task.batch_size // world * world or world}"
        )
    if not config.measure.exclusive:  # it makes its own batches
        share = task.batch_size // (1 if config.norm.get("sync") else world)
        check_single(config, model, f"task.batch_size={task.batch_size}", share)


def _check_trainer(config: RunConfig) -> None:
    trainer = config.trainer
    if trainer.accelerator == "cpu" and trainer.precision == "16-mixed":
        raise InputError("trainer.precision=16-mixed needs a GPU: on the CPU use bf16-mixed or 32-true")
    cores = usable_cores()
    if trainer.threads is not None and trainer.threads > cores:
        raise InputError(f"trainer.threads={trainer.threads}: this process may use {cores} cores")


def _check_measure(config: RunConfig) -> None:
    """Does the config fit what the measure declares?"""
    measure, trainer = config.measure, config.trainer
    if measure.processes == "one" and trainer.processes > 1:
        raise InputError(f"measure={measure.name} runs in one process: use trainer=cpu or trainer=gpu")
    if config.test and not measure.reads_test:
        raise InputError(f"measure={measure.name} never reads the test split: leave out test=true")
    if measure.goals and config.task.goal not in measure.goals:
        goals = " and ".join(goal.replace("_", " ") for goal in measure.goals)
        raise InputError(f"measure={measure.name} is for {goals}, not for task.goal={config.task.goal}")


def check_size(config: RunConfig) -> None:
    """Do the model's weights fit into memory, and can they be built in time? By a lower bound from depth and width."""
    sizes = {name: config.model.get(name) for name in ("width", "layers", "depth", "stages")}
    known = {name: value for name, value in sizes.items() if isinstance(value, int)}
    for name, value in known.items():
        if name != "width" and value > _MOST_LAYERS:
            raise InputError(f"model.{name}={value}: more than {_MOST_LAYERS:,} would take hours to build")
    width = known.get("width", 0)
    # every layer has at least a square weight matrix; float32, with gradients
    needed = 8 * width**2 * known.get("layers", known.get("depth", 1))
    memory = memory_of_machine()
    if memory and needed > memory:
        raise InputError(
            f"model.width={width}: its weights and their gradients alone take {needed / 1e9:,.0f} GB, and this machine "
            f"has {memory / 1e9:,.0f} GB; use a smaller width"
        )


_MOST_LAYERS = 10_000


def _check_folder(key: str, folder: str) -> None:
    """Can the folder be created and written to?"""
    if not folder.strip():
        raise InputError(f"{key} is empty: give the name of a folder")
    try:
        place = Path(folder).absolute()
        broken = next((path for path in (place, *place.parents) if path.is_symlink() and not path.exists()), None)
        existing = next(path for path in (place, *place.parents) if path.exists())
    except (OSError, ValueError) as error:
        raise InputError(f"{key}={_cut(folder)}: {getattr(error, 'strerror', error)}") from None
    if broken is not None:
        raise InputError(
            f"{key}={_cut(folder)}: {broken} is a link to {broken.readlink()}, which does not exist: make that "
            "folder, or remove the link"
        )
    if not existing.is_dir():
        raise InputError(f"{key}={folder}: {existing} is a file, not a folder")
    if existing.resolve().parts[1:2] in (("proc",), ("sys",), ("dev",)) and not existing.is_relative_to("/dev/shm"):
        raise InputError(f"{key}={folder}: {existing} is a system folder that can't hold files; choose another")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{key}={folder}: no permission to write in {existing}; choose another {key}=...")


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:100]}…"
