"""Rebuilds a model from its checkpoint alone."""

from __future__ import annotations

import io
import json
import math
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import Tensor, nn

from normlab.checks.config import check_size
from normlab.config.schema import InputError, RunConfig, Sizes
from normlab.config.strict import Strict
from normlab.folder.files import read_regular
from normlab.folder.seal import state_of
from normlab.host.cores import memory_of_machine
from normlab.models.base import Model
from normlab.models.build import assemble
from normlab.trust.names import only_ours, trusted_config


def describe(config: RunConfig, sizes: Sizes, data: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint records besides the weights: plain values only, so that it loads safely.

    `data` is what was fitted to the training data, and hashes of all splits.
    """
    plain = asdict(sizes)
    return {"config": config.model_dump(mode="json"), "sizes": {**plain, "shape": list(sizes.shape)}, "data": data}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The whole checkpoint: weights, config, optimiser state. Reading it runs none of its code.

    Raises:
        InputError: there is no such file, it is damaged, or it is not a checkpoint of normlab.
    """
    try:
        content = read_regular(Path(path))
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    if state_of(content) == "damaged":
        raise InputError(f"{path} is damaged: its content does not match the checksum saved with it")
    try:
        _check_archive(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickles that it then refuses
            checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint, or damaged ({type(error).__name__})") from None
    if not isinstance(checkpoint, dict) or "normlab" not in checkpoint:
        raise InputError(f"{path}: not a normlab checkpoint")
    return checkpoint


def _check_archive(content: bytes) -> None:
    """Refuse files that unpack to more than their size, because torch compresses nothing."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > len(content):
                raise ValueError("it unpacks to more than its size")


def recorded(checkpoint: dict[str, Any], path: str | Path, trust: Iterable[str] = ()) -> tuple[RunConfig, Sizes]:
    """The config and the sizes with which a checkpoint was made.

    Args:
        checkpoint: as read from `path`.
        trust: modules outside normlab whose classes it may name.

    Raises:
        InputError: its record is damaged or from another version, or it names a class that it may not name.
    """
    record = checkpoint["normlab"]
    if not isinstance(record, dict) or not {"config", "sizes"} <= set(record):
        raise InputError(f"{path} is damaged: it does not record the config and the sizes that it was made with")
    config = trusted_config(record["config"], trust, str(path))
    try:
        check_size(config)
        if extra := sorted(set(record["sizes"]) - {field.name for field in fields(Sizes)}):
            raise InputError(f"there is no size {extra[0][:100]}")
        sizes = _SIZES.validate_json(json.dumps(record["sizes"]), strict=True)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in ("sizes", *problem["loc"]))[:100]
        raise InputError(f"{path} is damaged: its record {key}: {problem['msg']}") from None
    except (TypeError, ValueError, RecursionError) as error:
        why = f": {error}" if isinstance(error, InputError) else ""
        raise InputError(f"{path} is damaged: its record of sizes is invalid{why}") from None
    return config, sizes


_SIZES = pydantic.TypeAdapter(Sizes)


def recorded_data(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """What a checkpoint records about its data.

    Raises:
        InputError: it was made before checkpoints recorded that, or it is damaged.
    """
    record = checkpoint["normlab"]
    data = record.get("data") if isinstance(record, dict) else None
    if not isinstance(data, dict) or not {"fitted", "prints", "counts"} <= set(data):
        raise InputError(
            f"{path} was made by an earlier version and lacks the classes, vocabulary or pixel statistics that "
            "it was trained with: train it again to evaluate it (normlab.load_checkpoint still gives the model)"
        )
    try:
        _DataRecord.model_validate(data)
    except (pydantic.ValidationError, RecursionError):
        raise InputError(f"{path} is damaged: its record of the data is mistyped") from None
    return data


class _DataRecord(Strict):
    fitted: dict[str, Any]
    prints: dict[str, str]
    counts: dict[str, int]


def load_checkpoint(path: str | Path, trust: Iterable[str] = ()) -> Model:
    """The model of a checkpoint, with its weights, in eval mode on the CPU.

    Only modules of normlab and of `trust` are imported, because a checkpoint names the classes to build and may come
    from an untrusted source.

    Args:
        path: of the checkpoint.
        trust: modules of your own whose norms and models it may name as well, such as `["my_norms"]`.

    Raises:
        InputError: there is no such file, it is damaged, it is not a checkpoint of normlab, or it names a class outside
        normlab that `trust` does not allow.
    """
    checkpoint = read_checkpoint(path)
    config, sizes = recorded(checkpoint, path, trust)
    weights = _weights(checkpoint, path)
    if only_ours(config.norm, config.model):
        check_fit(_outline(config, sizes, path), weights, path)
    model = assemble(config.norm, config.model, sizes)
    put_weights(model, weights, path)
    return model.eval()


def put_weights(module: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Load the weights of a checkpoint into a module.

    Raises:
        InputError: they don't fit the module.
    """
    check_fit(module, weights, path)
    module.load_state_dict(weights)


def state_of_task(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, under the names of a task.

    Raises:
        InputError: it has none.
    """
    state = checkpoint.get("state_dict")
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) and isinstance(k, str) for k, v in state.items()):
        raise InputError(f"{path} is damaged: it has no weights")
    return state


def _weights(checkpoint: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The same, under the names of the model."""
    state, prefix = state_of_task(checkpoint, path), "model."
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def _outline(config: RunConfig, sizes: Sizes, path: str | Path) -> Model:
    """The model without its values, which takes no memory, whatever sizes a record claims.

    Raises:
        InputError: no model can be built from the record, or it doesn't fit into this machine's memory.
    """
    try:
        with torch.device("meta"):
            model = assemble(config.norm, config.model, sizes)
    except InputError as error:
        raise InputError(f"{path} is damaged, or from another version: {error}") from None
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"{path} is damaged: no model can be built from its record: {why}") from error
    needed = sum(math.prod(t.shape) * t.element_size() for t in (*model.parameters(), *model.buffers()))
    if 0 < memory_of_machine() < needed:
        raise InputError(f"{path} is damaged: the model of its record would take {needed / 1e9:,.0f} GB of memory")
    return model


def check_fit(module: nn.Module, weights: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that the weights of a checkpoint fit a module.

    Raises:
        InputError: they don't; the message names the first that differs.
    """
    there = module.state_dict()
    missing, extra = sorted(set(there) - set(weights)), sorted(set(weights) - set(there))
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has {extra[0][:100]}, which the model doesn't have"
        raise InputError(f"{path} doesn't fit the model of its record: it {what}")
    for name, value in weights.items():
        if value.shape != there[name].shape or value.dtype.is_floating_point != there[name].dtype.is_floating_point:
            was, now = (f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in (value, there[name]))
            raise InputError(f"{path} doesn't fit the model of its record: {name} is {was}, not {now}")
