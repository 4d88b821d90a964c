"""From Hydra's composed config to a `RunConfig` that can run. Imports no torch.

Types and ranges first, then the options of the norm and the model against their constructors, then what
only the whole config can tell.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pydantic
from omegaconf import DictConfig, OmegaConf

from normlab.schema import GradientGrowth, InputError, RunConfig, SampleCoupling, TaskConfig
from normlab.signature import Signature, read, type_error

_KIND_OF_VIEW = {"images": "images", "rows": "features", "pixels": "features", "permuted_pixels": "features"}
_TAKES = {"images": "images", "features": "sequences of features", "tokens": "sequences of tokens"}
_MODELS = {"images": "cnn or mlp", "features": "lstm or transformer", "tokens": "lstm or transformer"}
_TASKS = {
    "images": "fashion_mnist or cifar10",
    "features": "fashion_rows or permuted_mnist",
    "tokens": "word_stress, union or author",
}


def checked(cfg: DictConfig, overrides: Sequence[str] = (), launcher: str | None = None) -> RunConfig:
    """The config with all choices made and checked.

    Args:
        cfg: what Hydra composed
        overrides: the command line's own choices, such as `norm=batch`
        launcher: what starts it, where it is one run of a multirun

    Raises:
        InputError: a value has the wrong type or range, or the choices don't fit each other.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise InputError(f"{missing[0]} has no value: set it with {missing[0]}=...")
    values = OmegaConf.to_container(cfg, resolve=True)
    try:
        # in JSON a list may stand for a tuple, while nothing else is converted
        config = RunConfig.model_validate_json(json.dumps(values), strict=True)
    except pydantic.ValidationError as error:
        raise InputError(_worded(error)) from None
    _check_command(config, overrides, launcher)
    norm = _checked_options("norm", config.norm)
    model = _checked_options("model", config.model)
    _check_data(config.task)
    _check_kind(config, model)
    _check_sites(config, norm, model)
    _check_batch(config, model)
    _check_trainer(config)
    _check_measure(config)
    _check_output(config)
    return config


def _worded(error: pydantic.ValidationError) -> str:
    problem = error.errors()[0]
    group, *path = problem["loc"]
    if group == "measure":
        del path[:1]  # the measure's name
    key = ".".join(str(part) for part in (group, *path))
    if problem["type"] == "extra_forbidden":
        return f"there is no option {key}. `--cfg job` prints them all."
    if problem["type"] == "missing":
        return f"{key} has no value: set it with {key}=..."
    if problem["type"] == "value_error":  # what our own validators say
        return str(problem["ctx"]["error"])
    return f"{key}={_shown(problem['input'])}: {_lower(problem['msg'])}."


def _shown(value: object) -> str:
    """As the command line would write it."""
    return json.dumps(value).strip('"')


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _checked_options(group: str, node: dict[str, Any]) -> Signature:
    """The signature of the chosen class; its options have the types that its constructor asks for."""
    if not isinstance(node.get("_target_"), str):
        raise InputError(f"{group} has no _target_: choose one with {group}=NAME")
    signature = read(node["_target_"])
    for name, value in node.items():
        if name in ("_target_", "_partial_"):
            continue
        if name not in signature.options:
            near = difflib.get_close_matches(name, signature.options, n=1)
            hint = f" Did you mean {group}.{near[0]}?" if near else ""
            raise InputError(f"there is no option {group}.{name}.{hint} Options: {', '.join(signature.options)}.")
        wrong = type_error(signature.options[name], value)
        if wrong:
            raise InputError(f"{group}.{name}={_shown(value)}: {_lower(wrong)}.")
    return signature


def _check_command(config: RunConfig, overrides: Sequence[str], launcher: str | None) -> None:
    """Do the choices go with what is measured and with how it is launched?"""
    if config.measure.name == "evaluate":
        if config.ckpt is None:
            raise InputError("measure=evaluate needs a checkpoint: ckpt=outputs/runs/<id>/checkpoints/best.ckpt")
        if not Path(config.ckpt).is_file():
            raise InputError(f"ckpt={config.ckpt}: there is no such file")
        own = [o for o in overrides if o.lstrip("+~").split("=")[0].split(".")[0] in _OF_CHECKPOINT]
        own = [o for o in own if not o.startswith("task.path=")]
        if own:
            raise InputError(f"{own[0]}: measure=evaluate takes norm, model, task and seed from the checkpoint")
    elif config.ckpt is not None:
        raise InputError("ckpt=... goes with measure=evaluate")
    if launcher not in (None, "slurm") and config.trainer.devices * config.trainer.nodes > 1:
        raise InputError(
            f"several processes a run don't go with launcher={launcher}, where each would start the whole multirun "
            "again: use launcher=slurm, where a run's processes are tasks of its job, or start one run at a time, "
            "python train.py trainer=ddp ..."
        )


_OF_CHECKPOINT = ("norm", "model", "task", "optim", "seed")


def _check_data(task: TaskConfig) -> None:
    """Is there something where the data should lie?"""
    if task.source == "path" and not Path(str(task.path)).exists():
        raise InputError(f"task.path={task.path}: there is no such file or folder")


def _check_kind(config: RunConfig, model: Signature) -> None:
    """Does the model take what the task gives?"""
    kind = kind_of(config.task)
    if kind in model.constants["kinds"]:
        return
    takes = " or ".join(_TAKES[name] for name in model.constants["kinds"])
    tasks = " or ".join(_TASKS[name] for name in model.constants["kinds"])
    raise InputError(
        f"model={config.model_name} takes {takes}, and task={config.task.name} gives {_TAKES[kind]}: "
        f"choose model={_MODELS[kind]}, or a task such as {tasks}"
    )


def kind_of(task: TaskConfig) -> str:
    """The kind of input (see `Sizes`) that a task gives."""
    return _KIND_OF_VIEW.get(task.view, "tokens")


def _check_sites(config: RunConfig, norm: Signature, model: Signature) -> None:
    """Has the norm a meaning at the model's sites?"""
    name, nearest = config.norm_name, norm.constants.get("nearest", "layer")
    sites = model.constants["layouts"]
    refused = [layout for layout in sites if layout not in norm.constants.get("layouts", sites)]
    if refused:
        where = _PLACES[refused[0]]
        raise InputError(f"norm={name} has no meaning {where} of model={config.model_name}: use norm={nearest}")
    causal = config.task.goal == "language_modelling"
    if causal and "BTC" in sites and not norm.constants.get("causal", True):
        raise InputError(
            f"norm={name} takes its statistics over time, so a language model would see the text that it is "
            f"to predict: use norm={nearest}"
        )
    groups, width = config.norm.get("groups"), config.model.get("width")
    if isinstance(groups, int) and isinstance(width, int) and width % groups:
        near = max(n for n in range(1, groups + 1) if width % n == 0)
        raise InputError(
            f"norm.groups={groups} does not divide model.width={width}: use norm.groups={near} or another width"
        )


_PLACES = {
    "BC": "at a site without spatial or time dimensions, like those",
    "BCHW": "on images, the sites",
    "BTC": "on sequences, the sites",
}


def _check_batch(config: RunConfig, model: Signature) -> None:
    task, trainer = config.task, config.trainer
    world = trainer.devices * trainer.nodes
    if task.batch_size % world:
        raise InputError(
            f"task.batch_size={task.batch_size} is the batch of all processes together and can't be shared "
            f"out evenly among {world}: use {task.batch_size // world * world or world}"
        )
    if config.norm_name != "batch" or "BC" not in model.constants["layouts"]:
        return
    share = task.batch_size // (1 if config.norm.get("sync") else world)
    single = "norm.nbs=1" if config.norm.get("nbs") == 1 else f"task.batch_size={task.batch_size}"
    if min(share, config.norm.get("nbs") or share) == 1:
        raise InputError(
            f"batch norm has no statistics over a single example: {single} leaves one a batch in "
            f"model={config.model_name}; use 2 or more, or norm=layer"
        )


def _check_trainer(config: RunConfig) -> None:
    trainer = config.trainer
    if trainer.accelerator == "cpu" and trainer.precision == "16-mixed":
        raise InputError("trainer.precision=16-mixed needs a GPU: on the CPU use bf16-mixed or 32-true")
    cores = os.cpu_count() or 1
    if trainer.threads is not None and trainer.threads > cores:
        raise InputError(f"trainer.threads={trainer.threads}: this machine has {cores} cores")


def _check_measure(config: RunConfig) -> None:
    """Does what looks into a network without training it find there what it looks for?"""
    measure = config.measure
    if not isinstance(measure, GradientGrowth | SampleCoupling):
        return
    if config.trainer.devices * config.trainer.nodes > 1:
        raise InputError(f"measure={measure.name} runs in one process: use trainer=cpu or trainer=gpu")
    if config.test:
        raise InputError(f"measure={measure.name} trains nothing that test=true could test")
    if not isinstance(measure, GradientGrowth):
        return
    if config.model_name not in _LAYERS:
        raise InputError(
            f"measure=gradient_growth compares layer with layer, and the depth of model={config.model_name} is time: "
            f"use model={', '.join(_LAYERS)}"
        )
    counts = {name: config.model[name] for name in _LAYERS[config.model_name]}
    if math.prod(counts.values()) < 2:
        options = " ".join(f"model.{name}={count}" for name, count in counts.items())
        raise InputError(f"measure=gradient_growth needs two hidden layers at least; {options} gives one")
    if measure.inputs == "gaussian" and kind_of(config.task) == "tokens":
        raise InputError(f"measure.inputs=gaussian are no tokens, which task={config.task.name} has: use data")


# model → the options whose product is the number of its hidden layers (mlp) or blocks
_LAYERS = {"mlp": ("depth",), "cnn": ("stages", "depth"), "transformer": ("layers",)}


def _check_output(config: RunConfig) -> None:
    """The output folder can be made and written to."""
    place = Path(config.output)
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"output={config.output}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output={config.output}: no permission to write in {existing}; choose another output=...")
