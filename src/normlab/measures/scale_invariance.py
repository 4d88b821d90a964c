"""What scaling the weights before a norm changes: the outputs, the gradients, a step."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normlab.config.measures.gradients import ScaleInvariance
from normlab.config.schema import InputError, RunConfig
from normlab.folder.place import Place
from normlab.models.base import Model
from normlab.session.session import Session

RATE = 1e-6  # size of the step: small enough for the outputs to change linearly, and far above float64's rounding


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Scale the weights w (and biases) of every layer that a norm follows by `factor` = k, in training mode, float64.

    If a norm removes the scale, f(k w) = f(w), and so ∇f(k w) = ∇f(w) / k: a step of rate η from k w has the effect of
    one of rate η / k² from w. Weight decay then acts only through the rate (van Laarhoven 2017, arXiv:1706.05350), and
    the effective rate of such a layer is η / |w|². On real examples, with y the logits:

        function_change        max |y(k w) - y(w)| / max |y(w)|: 0 for an invariant net, except for eps (about eps/2 σ²)
        unit_function_change   the same with a separate factor from 1 to k for every unit: batch norm and
                               instance norm are invariant to that too, layer norm is not (Ba et al. 2016,
                               arXiv:1607.06450, section 5.1)
        gradient_ratio         |∇ E(k w)| / |∇ E(w)| over those weights, E the loss: 1/k for an invariant net
        step_ratio             change of y by an SGD step on those weights, from k w relative to from w: 1/k²

    null: not finite.

    Raises:
        InputError: a norm doesn't follow a layer directly, or the training split has fewer examples.
    """
    options = config.measure
    assert isinstance(options, ScaleInvariance)
    session = Session(config, place)
    model = session.model().double().train()
    for site in model.sites():
        if site.fed_by is None:
            raise InputError(
                f"measure=scale_invariance scales the layer before each norm; {site.norm} has none: {site.obstacle}"
            )
    batch = session.sample(options.examples, "measure.examples")
    changes = compare(model, batch.inputs.double(), batch.targets, options.factor, session.seed("units"))
    return session.finish({**changes, "parameters": sum(p.numel() for p in model.parameters())})


def compare(model: Model, inputs: Tensor, targets: Tensor, factor: float, seed: int) -> dict[str, float | None]:
    """What `measure` reports for a float64 model, which is not changed."""
    before = _response(model, inputs, targets)
    after = _response(scaled(model, factor), inputs, targets)
    generator = torch.Generator().manual_seed(seed)
    units, *_ = _response(scaled(model, factor, generator), inputs, targets)
    values = {
        "function_change": _difference(after[0], before[0]),
        "unit_function_change": _difference(units, before[0]),
        "gradient_ratio": float(after[1] / before[1]),
        "step_ratio": float(after[2] / before[2]),
    }
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def before_norms(model: Model) -> list[nn.Module]:
    """The layers whose output only a norm reads."""
    return [model.get_submodule(site.fed_by) for site in model.sites() if site.fed_by is not None]


@torch.no_grad()
def scaled(model: Model, factor: float, generator: torch.Generator | None = None) -> Model:
    """A copy with the layers before norms scaled; with a generator each unit by factor^u, u uniform in [0, 1]."""
    copied = copy.deepcopy(model)
    for layer in before_norms(copied):
        weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
        exponent = 1.0 if generator is None else torch.rand(len(bias), generator=generator, dtype=bias.dtype)
        factors = torch.full_like(bias, factor) ** exponent
        weight.mul_(factors.view(-1, *[1] * (weight.ndim - 1)))
        bias.mul_(factors)
    return copied


def _response(model: Model, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs; norm of the gradients of the weights before norms; greatest change of the outputs by a step on them."""
    model = copy.deepcopy(model)
    weights = [layer.get_parameter("weight") for layer in before_norms(model)]
    y = model(inputs)
    gradients = torch.autograd.grad(F.cross_entropy(y, targets), weights)
    size = torch.stack([gradient.norm() for gradient in gradients]).norm()
    with torch.no_grad():
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.sub_(RATE * gradient)
        return y.detach(), size, (model(inputs) - y).abs().max()


def _difference(y: Tensor, reference: Tensor) -> float:
    return float((y - reference).abs().max() / reference.abs().max())
