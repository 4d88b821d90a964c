"""What changes the bits of a result and no option says: the kernel that `auto` found, the processor's vectors, the GPU.

The number of threads is an option, which is part of a run's identity and always set.
"""

from __future__ import annotations

import torch

from normlab.models.base import Model


def conditions(model: Model, device: torch.device) -> dict[str, str]:
    """The conditions under which a model computes now."""
    found = {"vectors": torch.backends.cpu.get_cpu_capability(), "threads": str(torch.get_num_threads())}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return {**found, **{name: str(value) for name, value in model.facts().items()}}


def change(before: dict[str, str], now: dict[str, str]) -> str:
    """What is other than before: `kernel fused → plain`; empty if nothing is."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {before.get(name, 'none')} → {now.get(name, 'none')}" for name in names)
