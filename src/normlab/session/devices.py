"""Are the devices there that a run asks for?"""

from __future__ import annotations

import torch

from normlab.config.schema import InputError, TrainerConfig


def check_devices(trainer: TrainerConfig) -> None:
    """Are there as many GPUs as asked for?"""
    if trainer.accelerator != "gpu":
        return
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there == 0:
        raise InputError("trainer=gpu: torch sees no GPU here; use trainer=cpu")
    if there < trainer.devices:
        raise InputError(f"trainer.devices={trainer.devices}: torch sees {there} GPUs here")
