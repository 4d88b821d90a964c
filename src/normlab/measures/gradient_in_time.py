"""How gradients grow, step by step, on their way back through an untrained recurrent network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from normlab.config.measures.gradients import GradientInTime
from normlab.config.schema import InputError, RunConfig
from normlab.folder.place import Place
from normlab.models.base import Model, outputs_of
from normlab.probes.slopes import gaussian, growth, inner, sequences_of_equal_length, steadiness
from normlab.session.session import Session


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Growth per time step of the gradients of E = Σ v · h_T, with v ~ N(0, 1) for every entry of h_T.

    h_T [B, H] is the last recurrent layer's state after the last of T steps, and u_t [B, F] what the first one reads at
    step t: the data's features, or the vectors of its tokens. An input at step t reaches h_T only through the steps
    after it, so with g_t the root mean square of ∂E/∂u_t over all its entries,

        log gradient_per_step = -slope of log g_t over t,

    fitted to the inner steps (the share `skip` is left out at each end, where the state still settles). Below 1,
    gradients vanish with the distance in time; above 1, they explode (Pascanu et al. 2013, arXiv:1211.5063). Norms are
    in training mode and everything is float64. The loss is replaced by E as in measure=gradient_growth.

    Returns:
        A flat summary: `gradient_per_step`; `gradient_steadiness`, min(growth, 1 / growth), so 1 if gradients neither
        vanish nor explode; `gradient_log10_first` and `…_last`, log10 of g_1 and g_T; `time_steps` T.
        null: not finite, for example because a gradient is 0. The run's metrics have a row `step/gradient_log10` for
        each time step.

    Raises:
        InputError: the training split has fewer examples than the batch, or fewer than four steps remain.
    """
    options = config.measure
    assert isinstance(options, GradientInTime)
    session = Session(config, place)
    model = session.model().to(session.device, torch.float64).train()
    torch.manual_seed(session.seed("noise"))
    inputs = sequences_of_equal_length(session.sample(options.batch_size, "measure.batch_size"))
    if inputs.shape[1] < LEAST_STEPS:
        raise InputError(
            f"measure=gradient_in_time needs at least {LEAST_STEPS} time steps, but the shortest sequence of the "
            f"batch has {inputs.shape[1]}: use a task of longer sequences, such as task=union or task=fashion_rows"
        )
    logs = gradient_logs(model, inputs.to(session.device), session.seed("cotangent"))
    for i, log in enumerate(logs, 1):
        session.log({"step/gradient_log10": log}, i)
    fitted = inner(len(logs), options.skip)
    per_step = growth([-log for log in logs], fitted)
    summary = {
        "gradient_per_step": per_step,
        "gradient_steadiness": steadiness(per_step),
        "gradient_log10_first": logs[0],
        "gradient_log10_last": logs[-1],
        "time_steps": len(logs),
        "first_step": fitted.start,
        "last_step": fitted.stop - 1,
        "parameters": sum(p.numel() for p in model.parameters()),
        **model.facts(),
    }
    return session.finish(summary)


LEAST_STEPS = 4


def gradient_logs(model: Model, inputs: Tensor, seed: int) -> list[float]:
    """log10 g_t for each step, for inputs float [B, T, F] or int64 [B, T]; `seed` draws v."""
    read_here = [] if inputs.is_floating_point() else [model.token_vectors()]
    with outputs_of(model.hidden_layers()[-1:]) as states, outputs_of(read_here) as vectors:
        given = inputs.requires_grad_() if inputs.is_floating_point() else inputs
        model(given)
    last = states[0][:, -1]
    read = vectors[0] if vectors else given
    (gradient,) = torch.autograd.grad(last, read, gaussian(last.shape, seed).to(last))
    sizes: list[float] = gradient.square().mean((0, 2)).sqrt().log10().tolist()
    return sizes
