"""What a checkpoint records of the data that it was trained with."""

from __future__ import annotations

from typing import Any

from normlab.config.schema import InputError, RunConfig
from normlab.data.fitted import Fitted
from normlab.models.checkpoint import read_checkpoint, recorded, recorded_data


def known_data(config: RunConfig) -> tuple[dict[str, Any], Fitted]:
    """What the evaluated checkpoint records of its training data, and what was fitted to them.

    Raises:
        InputError: it records nothing, or its records contradict each other.
    """
    assert config.ckpt is not None
    checkpoint = read_checkpoint(config.ckpt)
    _, sizes = recorded(checkpoint, config.ckpt, config.trust)
    data = recorded_data(checkpoint, config.ckpt)
    try:
        fitted = Fitted.read(data["fitted"])
        fitted.check(config.task, sizes)
    except InputError as error:
        raise InputError(f"{config.ckpt} is damaged: {error}") from None
    return data, fitted
