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

from normlab.config.cores import usable_cores
from normlab.config.measure_options import (
    Axes,
    GradientGrowth,
    InferenceTime,
    Leakage,
    LearningRateCeiling,
    Lengths,
    SampleCoupling,
    ScaleInvariance,
    SiteTime,
    SyncEquivalence,
    Timing,
    Training,
)
from normlab.config.schema import InputError, RunConfig, TaskConfig
from normlab.config.signature import Signature, read, type_error

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
    assert isinstance(values, dict)
    _, *beyond = (values.pop(key, None) for key in ("scale", "finding", "study"))  # which no single run depends on
    if not any(beyond) and (scale := next((text for text in overrides if text.startswith("scale=")), None)):
        raise InputError(f"{scale} says what a study spends: name one too, as study=textbook, or a finding=...")
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
    _check_timing(config, model)
    _check_trial(config, model)
    _check_inside(config)
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
    if not config.measure.exclusive:  # which takes batches of its own
        share = task.batch_size // (1 if config.norm.get("sync") else world)
        _check_single(config, model, f"task.batch_size={task.batch_size}", share)


def _check_single(config: RunConfig, model: Signature, batch: str, share: int) -> None:
    """Would batch norm have to take statistics over one example? `batch` says what leaves that many."""
    if config.norm_name != "batch" or "BC" not in model.constants["layouts"]:
        return
    single = "norm.nbs=1" if config.norm.get("nbs") == 1 else batch
    if min(share, config.norm.get("nbs") or share) == 1:
        raise InputError(
            f"batch norm has no statistics over a single example: {single} leaves one a batch in "
            f"model={config.model_name}; use 2 or more, or norm=layer"
        )


def _check_trainer(config: RunConfig) -> None:
    trainer = config.trainer
    if trainer.accelerator == "cpu" and trainer.precision == "16-mixed":
        raise InputError("trainer.precision=16-mixed needs a GPU: on the CPU use bf16-mixed or 32-true")
    cores = usable_cores()
    if trainer.threads is not None and trainer.threads > cores:
        raise InputError(f"trainer.threads={trainer.threads}: this process may use {cores} cores")


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


def _check_timing(config: RunConfig, model: Signature) -> None:
    """Can both norms be timed in the model, as the config asks for it?"""
    measure, trainer = config.measure, config.trainer
    if not isinstance(measure, Timing):
        return
    if trainer.devices * trainer.nodes > 1:
        raise InputError(f"measure={measure.name} runs in one process: use trainer=cpu or trainer=gpu")
    if config.test:
        raise InputError(f"measure={measure.name} trains nothing that test=true could test")
    if trainer.precision == "16-mixed":
        raise InputError(f"measure={measure.name} scales no losses, as 16-mixed needs it: use bf16-mixed or 32-true")
    if isinstance(measure, SiteTime) and config.model_name == "lstm":
        raise InputError("measure=site_time times norms alone, which in model=lstm stand within the loop: use another")
    if isinstance(measure, SiteTime) and trainer.compile:
        raise InputError("measure=site_time times norms alone, which are not compiled: leave out trainer.compile=true")
    if not isinstance(measure, InferenceTime):
        _check_single(config, model, f"measure.batch_size={measure.batch_size}", measure.batch_size)
    if measure.against is None:
        return
    signature = _checked_options("measure.against", measure.against)
    beside = config.model_copy(update={"norm": measure.against})
    try:
        _check_sites(beside, signature, model)
        if not isinstance(measure, InferenceTime):
            _check_single(beside, model, f"measure.batch_size={measure.batch_size}", measure.batch_size)
    except InputError as error:
        raise InputError(f"norm@measure.against: {error}") from None


def _check_inside(config: RunConfig) -> None:
    """A network is looked into by one process, whose batch is the whole batch."""
    trainer = config.trainer
    if isinstance(config.measure, Training) and config.measure.inside and trainer.devices * trainer.nodes > 1:
        raise InputError("measure.inside=true looks into one process: use trainer=cpu or trainer=gpu")


def _check_trial(config: RunConfig, model: Signature) -> None:
    """Has what is tried of a network a meaning for it?"""
    measure, trainer = config.measure, config.trainer
    if not isinstance(measure, Lengths | _TRIALS):
        return
    if trainer.devices * trainer.nodes > 1:
        raise InputError(f"measure={measure.name} runs in one process: use trainer=cpu or trainer=gpu")
    if isinstance(measure, Lengths):
        _check_lengths(config, measure)
    elif config.test:
        raise InputError(f"measure={measure.name} never reads the test split: leave out test=true")
    if isinstance(measure, LearningRateCeiling):
        _check_ladder(measure)
    if isinstance(measure, Leakage):
        _check_leakage(config)
    if isinstance(measure, ScaleInvariance):
        _check_scaled(config, model)
    if isinstance(measure, SyncEquivalence):
        if config.norm_name != "batch":
            raise InputError(f"norm={config.norm_name} has nothing to synchronise: use norm=batch")
        if config.norm.get("nbs") is not None:
            raise InputError("norm.nbs splits a batch, and measure=sync_equivalence pools it: leave out norm.nbs")


_TRIALS = Axes | LearningRateCeiling | Leakage | ScaleInvariance | SyncEquivalence


def _check_lengths(config: RunConfig, measure: Lengths) -> None:
    if config.task.goal != "language_modelling":
        raise InputError(
            f"measure=lengths reads text, and task={config.task.name} is classification: "
            "use model=lstm or transformer with task=union"
        )
    if len(set(measure.lengths)) < len(measure.lengths):
        raise InputError(f"measure.lengths={_shown(list(measure.lengths))}: each length once")
    longest, known = max(measure.lengths), config.task.max_length or 0
    if config.model.get("position_encoding") == "learned" and longest > known:
        raise InputError(
            f"measure.lengths has {longest} tokens, and the model learns {known} positions (task.max_length): "
            "use model.position_encoding=rotary"
        )


def _check_ladder(measure: LearningRateCeiling) -> None:
    # by logarithms, as a power overflows
    if math.log10(measure.lowest) + (measure.rungs - 1) * math.log10(measure.factor) > _LARGEST_RATE:
        raise InputError(
            f"measure.rungs={measure.rungs}: the highest rung would be a learning rate beyond "
            f"1e{_LARGEST_RATE}, which float32 can't hold; use fewer, or a smaller measure.factor"
        )


_LARGEST_RATE = 38  # its power of ten


def _check_leakage(config: RunConfig) -> None:
    if config.task.goal != "classification":
        raise InputError(f"measure=leakage needs one class an example, which task={config.task.name} has not")
    nbs = config.norm.get("nbs")
    for name, value in (("task.batch_size", config.task.batch_size), ("norm.nbs", nbs)):
        if value is not None and value % 2:
            raise InputError(f"measure=leakage goes by pairs, and {name}={value} is odd: use an even number")


def _check_scaled(config: RunConfig, model: Signature) -> None:
    if model.constants["layouts"] not in (("BC",), ("BCHW",)) or config.model_name == "lstm":
        raise InputError(
            f"measure=scale_invariance scales the layer before each norm, and in model={config.model_name} more than "
            "one feeds it: use model=mlp or cnn"
        )
    if config.model.get("placement") == "pre_activation" and config.model.get("residual"):
        raise InputError(
            "measure=scale_invariance scales the layer before each norm, and model.placement=pre_activation has sums "
            "of branches there: use model.placement=post_conv"
        )


def _check_output(config: RunConfig) -> None:
    """The output folder can be made and written to."""
    place = Path(config.output)
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"output={config.output}: {existing} is a file, not a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"output={config.output}: no permission to write in {existing}; choose another output=...")
