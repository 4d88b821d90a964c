"""Folds norms that are fixed affine maps in eval mode into the layers before them."""

from __future__ import annotations

import copy

import torch
from torch import nn

from normlab.config.schema import InputError
from normlab.models.base import Model
from normlab.norms.base import Norm
from normlab.weights.parametrised import make_plain


def fold(model: Model) -> Model:
    """A copy of the model for inference, in eval mode, with every norm folded into the layer before it.

    With norm(z) = scale · z + shift and z = W x + b, the folded layer is (scale · W) x + (scale · b + shift):
    the same function up to rounding. Either all norms are folded or none. Weights that are functions of other
    parameters (`model.weights`) become plain ones first.

    Args:
        model: is not changed.

    Raises:
        InputError: a norm can't be folded; the message says which one and why.
    """
    folded = copy.deepcopy(model).eval()
    for site in folded.sites():
        norm = folded.get_submodule(site.norm)
        if not isinstance(norm, Norm):
            raise InputError(f"{site.norm} is already folded")
        if site.fed_by is None:
            raise InputError(f"{site.norm} can't be folded exactly: {site.obstacle}")
        layer = folded.get_submodule(site.fed_by)
        make_plain(layer)
        _fold_into(layer, norm, site.norm)
        folded.set_submodule(site.norm, nn.Identity())
    return folded


@torch.no_grad()
def _fold_into(layer: nn.Module, norm: Norm, path: str) -> None:
    affine = norm.eval_affine()
    if affine is None:
        raise InputError(
            f"{path} can't be folded: norm={norm.name} is not a fixed affine map in eval mode: "
            f"its output depends on statistics of the input"
        )
    scale, shift = affine
    weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
    weight.mul_(scale.view(-1, *[1] * (weight.dim() - 1)))
    bias.mul_(scale).add_(shift)
