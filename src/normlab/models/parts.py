"""Evaluation in parts: a batch's examples a few at a time, so that what a layer computes stays in the CPU's cache.

What is evaluated, and how it is summed up, does not depend on it: the parts are put together again, in order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.models.base import Model
from normlab.norms.base import Norm
from normlab.norms.running import RunningNorm


def in_parts(model: nn.Module, inputs: Tensor, mask: Tensor | None) -> Tensor:
    """The model's output for a batch, as `model(inputs, mask)` gives it, up to rounding.

    On a CPU a model that allows it gets `model.part` examples at a time. Padded sequences are sorted by length first,
    and a part is cut to its longest, so that little padding is computed.

    Args:
        model: any network; one that is not ours, or whose norms couple the examples, gets the whole batch.
        inputs: [B, …].
        mask: bool [B, T], true where real, a sequence's real steps first; None: all real.
    """
    size = model.part if isinstance(model, Model) else None
    if size is None or len(inputs) <= size or inputs.device.type != "cpu" or not apart(model):
        output: Tensor = model(inputs, mask)
        return output
    if mask is None:
        return torch.cat([model(part, None) for part in inputs.split(size)])
    lengths = mask.sum(1)
    order = lengths.argsort(stable=True)
    parts = []
    for index in order.split(size):
        longest = max(1, int(lengths[index].max()))
        part = model(inputs[index, :longest], mask[index, :longest])
        # a language model has outputs for each position; what it has at padding is not read
        parts.append(part if part.ndim == 2 else F.pad(part, (0, 0, 0, inputs.shape[1] - longest)))
    return torch.cat(parts)[order.argsort()]


def apart(model: nn.Module) -> bool:
    """Do the model's norms, in its present mode, leave the examples of a batch independent of each other?"""
    return not any(_couples(module) for module in model.modules() if isinstance(module, Norm))


def _couples(norm: Norm) -> bool:
    if isinstance(norm, RunningNorm) and not norm.of_batch:
        return norm.collected is not None  # the statistics that it takes of what passes
    return norm.couples_examples
