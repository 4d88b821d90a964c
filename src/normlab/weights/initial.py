"""Initial weights that fit the activation after a layer."""

from __future__ import annotations

import math

from torch import nn


def initialise(layer: nn.Linear | nn.Conv2d, following: str | None = None) -> None:
    """Draw a layer's initial values: weights from N(0, gain² / fan_in), bias 0.

    The gain is √2 before an activation that halves its input, such as relu (He et al. 2015,
    arXiv:1502.01852), and 1 before one that saturates or before none (LeCun et al. 1998, Efficient BackProp).

    Args:
        layer: a linear layer or a convolution with a bias.
        following: name of the activation after it, or None.
    """
    gain = math.sqrt(2) if following in ("relu", "gelu", "silu") else 1.0
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
