"""What changes the bits of a result without being an option: the kernel that `auto` chose, the CPU's vectors, the GPU.

The number of threads isn't among them: it is an option, always set, and part of a run's identity.
"""

from __future__ import annotations

import torch
from torch import nn

from normlab.models.base import Model, facts_of


def conditions(model: nn.Module, device: torch.device) -> dict[str, str]:
    """The conditions under which the model computes now."""
    found = {"vectors": torch.backends.cpu.get_cpu_capability(), "threads": str(torch.get_num_threads())}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    facts = facts_of(model) if isinstance(model, Model) else {}
    return {**found, **{name: str(value) for name, value in facts.items()}}


def change(before: dict[str, str], now: dict[str, str]) -> str:
    """What differs from before, such as `kernel fused → plain`; empty if nothing does."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} {before.get(name, 'none')} → {now.get(name, 'none')}" for name in names)
