"""A checkpoint alone rebuilds its model."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from normlab.config.schema import InputError, RunConfig, Sizes
from normlab.folder.seal import state_of
from normlab.models.base import Model
from normlab.models.build import assemble


def describe(config: RunConfig, sizes: Sizes, data: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint records beside the weights: plain values only, so that it loads safely.

    `data` is what was fitted on the training data, and hashes of all splits.
    """
    plain = asdict(sizes)
    return {"config": config.model_dump(mode="json"), "sizes": {**plain, "shape": list(sizes.shape)}, "data": data}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The whole checkpoint: weights, config, optimiser state.

    Raises:
        InputError: there is no such file, it is damaged, or it is no checkpoint of normlab.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    if state_of(content) == "damaged":
        raise InputError(f"{path} is damaged: its content does not match the checksum saved with it")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint, or damaged ({type(error).__name__})") from None
    if not isinstance(checkpoint, dict) or "normlab" not in checkpoint:
        raise InputError(f"{path}: not a normlab checkpoint")
    return checkpoint


def recorded(checkpoint: dict[str, Any]) -> tuple[RunConfig, Sizes]:
    """The config and the sizes that a checkpoint was made with."""
    record = checkpoint["normlab"]
    sizes = Sizes(**{**record["sizes"], "shape": tuple(record["sizes"]["shape"])})
    return RunConfig.model_validate(record["config"], strict=False), sizes


def recorded_data(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """What a checkpoint records of its data.

    Raises:
        InputError: it was made before checkpoints recorded that.
    """
    data = checkpoint["normlab"].get("data")
    if not isinstance(data, dict) or not {"fitted", "prints", "counts"} <= set(data):
        raise InputError(
            f"{path} was made by an earlier version and lacks the classes, vocabulary or pixel statistics that "
            "it was trained with: train it again to evaluate it (normlab.load_checkpoint still gives the model)"
        )
    return data


def load_checkpoint(path: str | Path) -> Model:
    """The model of a checkpoint, with its weights, in eval mode on the CPU.

    Raises:
        InputError: there is no such file, it is damaged, or it is no checkpoint of normlab.
    """
    checkpoint = read_checkpoint(path)
    config, sizes = recorded(checkpoint)
    model = assemble(config.norm, config.model, sizes)
    prefix = "model."
    model.load_state_dict(
        {name[len(prefix) :]: value for name, value in checkpoint["state_dict"].items() if name.startswith(prefix)}
    )
    return model.eval()
