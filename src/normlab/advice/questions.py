"""A network described by a few choices, and the conditions to look up for it: for `normlab advise` and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from normlab.config.schema import InputError
from normlab.findings.advice import CONDITIONS, Model, When

MODELS: tuple[Model, ...] = get_args(Model)
FEW = 16  # examples per set of statistics; from MANY on they are many; between the two, nothing was tested
MANY = 64
KEYS: dict[str, dict[str, When | None]] = {
    "lengths": {"fixed": None, "variable": "variable_lengths", "unseen": "unseen_lengths"},
    "features": {"many": None, "one": "one_feature"},
    "order": {"shuffled": None, "sorted": "sorted_batches"},
    "task": {
        "classification": None,
        "language_model": "causal",
        "segmentation": "segmentation",
        "pretraining": "pretraining",
    },
    "data": {"large": None, "small": "small_data"},
    "depth": {"shallow": None, "deep": "depth"},
    "want": {
        "independence": "independence",
        "high_rates": "high_rates",
        "few_steps": "few_steps",
        "training_time": "training_time",
        "inference_time": "inference_time",
        "memory": "memory",
    },
    "trouble": {"none": None, "evaluation": "evaluation_gap"},
}


SEQUENCES: tuple[When, ...] = ("variable_lengths", "unseen_lengths", "causal")
WITHOUT_SEQUENCES: tuple[Model, ...] = ("cnn", "vit", "mlp")


def askable(model: Model) -> list[When]:
    """All conditions that a network of this kind can be in."""
    return [when for when in CONDITIONS if when not in SEQUENCES or model not in WITHOUT_SEQUENCES]


def conditions(choices: Sequence[str]) -> tuple[Model, list[When], list[str]]:
    """The model, the conditions to look up (all if none is named), and remarks.

    Args:
        choices: arguments such as `model=lstm`, `batch=4`, `lengths=variable`.

    Raises:
        InputError: an unknown argument, or no model.
    """
    asked: dict[str, str] = {}
    for choice in choices:
        key, equals, value = choice.partition("=")
        if not equals or not value or key not in {"model", "batch", *KEYS}:
            raise InputError(f"{choice}: choose {_usage()}")
        if key in asked:
            raise InputError(f"{key} is chosen twice: {key}={asked[key]} and {choice}")
        asked[key] = value
    model = next((known for known in MODELS if known == asked.get("model")), None)
    if model is None:
        said = f"there is no model={asked['model']}" if "model" in asked else "no model is given"
        raise InputError(f"{said}: {', '.join(f'model={name}' for name in MODELS)}")
    chosen: list[When] = []
    remarks = []
    for key, values in KEYS.items():
        if key not in asked:
            continue
        if asked[key] not in values:
            raise InputError(f"there is no {key}={asked[key]}; there are {', '.join(values)}")
        when = values[asked[key]]
        if when and when not in askable(model):
            others = ", ".join(other for other in MODELS if other not in WITHOUT_SEQUENCES)
            raise InputError(f"{key}={asked[key]} is about sequences, which model={model} doesn't read: {others} do")
        chosen += [when] if when else []
    if "batch" in asked:  # last: the other choices say more about the network
        found, remark = _by_batch(asked["batch"])
        chosen += found
        remarks += [remark] if remark else []
    if len(chosen) > 1:
        remarks.append("Each condition was tested separately; there is no evidence on combinations of conditions.")
    return model, chosen, remarks


def _usage() -> str:
    keys = [f"{key}={'|'.join(values)}" for key, values in KEYS.items()]
    return f"model={'|'.join(MODELS)}, optionally with batch=<examples>, {', '.join(keys)}"


def _by_batch(text: str) -> tuple[list[When], str]:
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"batch={text} must be a whole number of examples of at least 1, such as batch=4")
    size = int(text)
    if size == 1:
        return [
            "single_example"
        ], "Batch norm can't train an MLP or an LSTM with one example per step; normlab refuses it."
    if size <= FEW:
        return ["few_examples"], ""
    if size >= MANY:
        return ["many_examples"], ""
    return (
        ["few_examples", "many_examples"],
        f"Between {FEW} and {MANY} examples nothing was tested; the evidence for smaller and larger batches follows.",
    )
