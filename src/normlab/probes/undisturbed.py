"""Uses a network in the middle of its training, and restores it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Within the context, the model may run in any mode; afterwards it and the random numbers are restored.

    This restores the buffers, the mode of every module and the generators, which start from `seed` within the context.
    Gradients can be computed within, even during Lightning's evaluation; the parameters' `.grad` doesn't change unless
    `backward` is called.
    """
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    with torch.inference_mode(False), torch.random.fork_rng([device] if device.type == "cuda" else []):
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        torch.manual_seed(seed)
        try:
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
            with torch.no_grad():
                for buffer, kept in buffers:
                    buffer.copy_(kept)
