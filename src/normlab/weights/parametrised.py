"""Weights as functions of other parameters: weight standardisation, weight norm, spectral norm.

They act on a layer, whatever norm follows it. Call `parametrise` last in a model's constructor, so that plain and
parametrised models draw the same initial values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from normlab.config.errors import InputError

Weights = Literal["plain", "standardised", "weight_norm", "spectral"]


class Standardised(nn.Module):
    """W = scale · (V - mean) / √(var + eps · scale²), over the fan-in of each output channel: weight standardisation.

    The paper (Qiao et al. 2019, arXiv:1903.10520) has no scale: its weights have variance 1. A norm after the layer
    undoes any scale, so there both are the same function except for the norms' eps; the scale keeps signals at the
    size of the plain layer's where no norm follows. Brock et al. 2021, arXiv:2101.08692, scale for that reason too.

    Args:
        weight: [outputs, …], as drawn. The scale is its root mean square.
        eps: added to the variance, as a share of the scale's square.
    """

    scale: Tensor

    def __init__(self, weight: Tensor, eps: float = 1e-5) -> None:
        super().__init__()
        self.register_buffer("scale", weight.detach().square().mean().sqrt())
        self.eps = eps

    def forward(self, weight: Tensor) -> Tensor:
        """V → W."""
        rows = weight.flatten(1)
        var, mean = torch.var_mean(rows, 1, correction=0, keepdim=True)
        standard = (rows - mean) * torch.rsqrt(var + self.eps * self.scale.square())
        return (self.scale * standard).view_as(weight)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """V = W at first."""
        return weight


class WeightNorm(nn.Module):
    """W = length · V / ‖V‖ for each output channel (Salimans and Kingma 2016, arXiv:1602.07868, eq. 2).

    The same as torch.nn.utils.parametrizations.weight_norm, except that the lengths are a vector: like a norm's gain
    they have no weight decay, and Muon is not for them.
    """

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        """Lengths [outputs] and V [outputs, …] → W."""
        rows = direction.flatten(1)
        scaled = rows * (length / torch.linalg.vector_norm(rows, dim=1)).unsqueeze(1)
        return scaled.view_as(direction)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """At first, lengths and V give W itself."""
        return torch.linalg.vector_norm(weight.flatten(1), dim=1), weight


def parametrise(layers: Iterable[nn.Module], weights: Weights, names: tuple[str, ...] = ("weight",)) -> None:
    """Make the weights of these layers functions of new parameters.

    Spectral norm is W = V / σ(V), with an estimate of V's largest singular value σ (Miyato et al. 2018,
    arXiv:1802.05957) by one step of power iteration in each forward pass of training.

    Args:
        layers: whose weights have the shape [outputs, …].
        weights: what they become.
        names: of the layers' weights.

    Raises:
        InputError: weight standardisation of a layer with one input, which would leave 0.
    """
    for layer in layers:
        for name in names:
            weight = layer.get_parameter(name)
            if weights == "standardised":
                if weight[0].numel() == 1:
                    raise InputError(
                        "model.weights=standardised would subtract from each weight of a layer with a single input its "
                        "own mean, so the layer would always return its bias: use model.weights=plain or weight_norm, "
                        "or more inputs"
                    )
                parametrize.register_parametrization(layer, name, Standardised(weight))
            elif weights == "weight_norm":
                parametrize.register_parametrization(layer, name, WeightNorm())
            elif weights == "spectral":
                parametrizations.spectral_norm(layer, name)


def make_plain(layer: nn.Module) -> None:
    """Turn a layer's weights of today into plain parameters."""
    if not parametrize.is_parametrized(layer):
        return
    # torch's own removal would also change the layer's copies, because it edits the class that they share
    values = {name: getattr(layer, name).detach().clone() for name in layer.parametrizations}  # type: ignore[union-attr]
    layer.__class__ = type(layer).__bases__[0]
    del layer.parametrizations
    for name, value in values.items():
        layer.register_parameter(name, nn.Parameter(value))
