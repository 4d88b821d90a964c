"""How gradients grow, layer by layer, on their way back through an untrained network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from normlab.config.measures.gradients import GradientGrowth
from normlab.config.schema import InputError, RunConfig
from normlab.folder.place import Place
from normlab.models.base import Model, outputs_of
from normlab.probes.signals import cosine, rms
from normlab.probes.slopes import gaussian, growth, inner, sequences_of_equal_length, steadiness
from normlab.session.session import Session
from normlab.session.task import build_task
from normlab.tasks.optimiser import build_optimiser
from normlab.tasks.task import Task


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Growth per layer of the gradients of E = Σ v · x_L, with v ~ N(0, 1) for every entry of x_L.

    x_l [B, …] is the output of hidden layer l of L: act(norm(W x + b)), with its shortcut, in an mlp; a block's
    output in a cnn or a transformer. E represents any loss, as in mean field theory; the choice of v changes no
    slope as long as v is independent of the layers. With g_l the root mean square of ∂E/∂x_l over all its
    entries,

        log gradient_growth = -slope of log g_l over l,    log activation_growth = slope of log RMS(x_l) over l,

    fitted to the inner layers (the share `skip` is left out at each end, where the signals still settle). Above 1,
    gradients explode on their way back; below 1, they vanish. Norms are in training mode and everything is
    float64, whatever `trainer.precision` is. Between layers the gradient is rescaled to 1, so that it neither
    under- nor overflows at any depth.

    In a plain mlp of infinite width the growth is known. With z ~ N(0, 1), φ the activation, gain² / width the
    variance of a weight and q that of W x:

                                                  relu                     tanh    sigmoid
        none         gain √E[φ'(√q z)²]           1                                0.236
        layer, rms   √(E[φ'(z)²] / E[φ(z)²])      1                        1.085   0.391
        batch        √(E[φ'(z)²] / Var[φ(z)])     √(π / (π - 1)) = 1.211   1.085   1.017

    The last is for a large batch: Yang et al. 2019, A Mean Field Theory of Batch Normalization, arXiv:1902.08129;
    by Poincaré's inequality it is at least 1, for any activation. The gain of the weights cancels in all but the
    first. At a batch of 256 and 40 layers of 512 units, batch norm is within 0.006 of it: fewer examples raise it,
    and with fewer units per layer it falls with depth.

    Returns:
        A flat summary: `gradient_growth` and `activation_growth`; `gradient_steadiness`, min(growth, 1 / growth), so 1
        if gradients neither vanish nor explode; `gradient_log10_first` and `…_last`, log10 of g_1
        and g_L; `output_cosine`, the mean cosine between the x_L of two examples. null: not finite, for example because
        every gradient is 0. The run's metrics have a row `layer/…` for each layer, with the layer as the step.

    Raises:
        InputError: the training split has fewer examples than the batch.
    """
    options = config.measure
    assert isinstance(options, GradientGrowth)
    session = Session(config, place)
    model = session.model().to(session.device, torch.float64).train()
    torch.manual_seed(session.seed("noise"))
    if options.steps:
        _train_a_step(session, build_task(config, model, session.data))
    layers = hidden(model, _inputs(session, options).to(session.device))
    cotangent = gaussian(layers[-1].shape, session.seed("cotangent")).to(session.device)
    gradients = gradient_logs(layers, cotangent)
    activations = [float(rms(x).log10()) for x in layers]
    cosines = [cosine(x) for x in layers]
    names = ("layer/gradient_log10", "layer/activation_log10", "layer/cosine")
    for i, values in enumerate(zip(gradients, activations, cosines, strict=True), 1):
        session.log(dict(zip(names, values, strict=True)), i)
    fitted = inner(len(layers), options.skip)
    per_layer = growth([-log for log in gradients], fitted)
    summary = {
        "gradient_growth": per_layer,
        "gradient_steadiness": steadiness(per_layer),
        "activation_growth": growth(activations, fitted),
        "output_cosine": cosines[-1],
        "gradient_log10_first": gradients[0],
        "gradient_log10_last": gradients[-1],
        "layers": len(layers),
        "first_layer": fitted.start,
        "last_layer": fitted.stop - 1,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    return session.finish(summary)


def hidden(model: Model, inputs: Tensor) -> list[Tensor]:
    """x_1 … x_L of one forward pass, as nodes of its graph."""
    with outputs_of(model.hidden_layers()) as kept:
        model(inputs)
    if len(kept) < 2:
        raise InputError(
            f"measure=gradient_growth needs at least two hidden layers, but {type(model).__name__}.hidden_layers() "
            f"names {len(kept)}"
        )
    return kept


def gradient_logs(layers: list[Tensor], cotangent: Tensor) -> list[float]:
    """log10 g_l for each layer; a layer depends on earlier ones only through the one before it."""
    logs, total, gradient = [], 0.0, cotangent
    for i in reversed(range(len(layers))):
        size = rms(gradient)
        total += float(size.log10())
        logs.append(total)
        if i > 0:
            (gradient,) = torch.autograd.grad(layers[i], layers[i - 1], gradient / size)
    return logs[::-1]


def _inputs(session: Session, options: GradientGrowth) -> Tensor:
    """A batch [B, …]: Gaussian, or from the training split, with sequences cut to the shortest of the batch."""
    if options.inputs == "gaussian":
        return gaussian((options.batch_size, *session.data.sizes.shape), session.seed("inputs"))
    return sequences_of_equal_length(session.sample(options.batch_size, "measure.batch_size"))


def _train_a_step(session: Session, task: Task) -> None:
    """One optimiser step on a batch of the training split, at the full learning rate, even if the loss is infinite."""
    optimiser = build_optimiser(task.model, session.config.optim)
    batch = next(session.training_batches())
    inputs = batch.inputs.double() if batch.inputs.is_floating_point() else batch.inputs
    task.objective(replace(batch, inputs=inputs))[0].backward()
    task.configure_gradient_clipping(optimiser)
    optimiser.step()
