"""How smooth the loss is where training goes, and how far the layers' updates shift each other's gradients."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from normlab.config.measures.gradients import Landscape
from normlab.config.schema import RunConfig
from normlab.data.batch import Batch
from normlab.folder.place import Place
from normlab.session.session import Session
from normlab.session.steps import step
from normlab.session.task import build_task
from normlab.tasks.optimiser import build_optimiser, build_schedule
from normlab.tasks.task import Task

Gradients = dict[str, Tensor]  # by the parameter's name


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train for `steps` optimiser steps, and look around at `looks` of them, evenly spaced, before the step is taken.

    With the batch's loss L, the weights θ and the gradient g = ∇L(θ), all in training mode:

    Smoothness (Santurkar et al. 2018, arXiv:1805.11604, section 3.1, with distances relative to the weights, because
    a norm lets the scale of the weights be anything). Steps θ_k = θ - s_k ‖θ‖ g / ‖g‖ with s_k = `distance` · k / 4,
    k = 1 … 4:

        loss_range         max_k L(θ_k) - min_k L(θ_k), in nats: the variation of the loss
        gradient_change    max_k ‖∇L(θ_k) - g‖ / ‖g‖: how soon the gradient stops predicting
        smoothness         max_k ‖∇L(θ_k) - g‖ ‖θ‖ / (‖θ_k - θ‖ ‖g‖), the effective β of β-smoothness without a unit

    Internal covariate shift (ibid., definition 2.1). For each weight matrix W_i, G_i = ∂L/∂W_i at θ, and G'_i the same
    after the optimiser's own step of all parameters of the layers before it; layers are in the order in which the
    forward pass first calls them:

        shift              mean over weight matrices but the first of ‖G'_i - G_i‖ / ‖G_i‖
        shift_cosine       mean over them of cos(G_i, G'_i); 1 is no shift

    Returns:
        A flat summary: means over the looks, `diverged`: whether a loss on the way was not finite; if so, the others
        are null. The run's metrics have a row `look/…` for each look, with its step.
    """
    options = config.measure
    assert isinstance(options, Landscape)
    session = Session(config, place)
    task = build_task(config, session.model(), session.data).to(session.device).train()
    torch.manual_seed(session.seed("noise"))
    optimiser = build_optimiser(task.model, config.optim)
    schedule = build_schedule(optimiser, config.optim, options.steps)
    looks = steps_of_looks(options.steps, options.looks)
    found: list[dict[str, float]] = []
    diverged = False
    for number, batch in enumerate(itertools.islice(session.training_batches(), options.steps)):
        if number in looks:
            found.append(look(task, optimiser, batch, options.distance))
            session.log({f"look/{name}": value for name, value in found[-1].items()}, number)
        diverged = not math.isfinite(step(task, optimiser, batch))
        if diverged:
            break
        schedule.step()
    summary: dict[str, Any] = {"diverged": diverged, "steps": options.steps, "looks": len(found)}
    for name in NAMES:
        summary[name] = None if diverged else fmean(values[name] for values in found)
    summary["parameters"] = sum(p.numel() for p in task.model.parameters())
    return session.finish(summary)


NAMES = ("loss_range", "gradient_change", "smoothness", "shift", "shift_cosine")
POINTS = 4  # steps along the gradient


def steps_of_looks(steps: int, looks: int) -> list[int]:
    """The numbers of the steps before which it looks: the first, and others evenly spaced."""
    return sorted({round(i * steps / looks) for i in range(looks)})


def look(task: Task, optimiser: torch.optim.Optimizer, batch: Batch, distance: float) -> dict[str, float]:
    """All values at these weights, on copies: the task, its buffers and the random state stay as they are."""
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        _, gradients = gradients_of(task, batch, state)
        return {
            **smoothness(task, batch, state, gradients, distance),
            **shift(task, optimiser, batch, state, gradients),
        }


def gradients_of(task: Task, batch: Batch, state: Tensor) -> tuple[float, Gradients]:
    """The loss and its gradients, with the same dropout each time; running statistics are left alone."""
    torch.set_rng_state(state)
    probe = copy.deepcopy(task)
    probe.zero_grad()
    loss, _ = probe.objective(batch)
    loss.backward()
    named = probe.model.named_parameters()
    return float(loss.detach()), {name: p.grad for name, p in named if p.grad is not None}


def smoothness(task: Task, batch: Batch, state: Tensor, gradients: Gradients, distance: float) -> dict[str, float]:
    """The loss and its gradient along the negative gradient, up to `distance` times the weights' norm."""
    weights = dict(task.model.named_parameters())
    size, slope = norm({name: weights[name].detach() for name in gradients}), norm(gradients)
    if not slope > 0:
        return dict.fromkeys(("loss_range", "gradient_change", "smoothness"), math.nan)  # there is no direction
    losses, changes, betas = [], [], []
    for k in range(1, POINTS + 1):
        length = distance * k / POINTS * size
        there = copy.deepcopy(task)
        with torch.no_grad():
            for name, parameter in there.model.named_parameters():
                if name in gradients:
                    parameter.sub_(gradients[name], alpha=length / slope)
        new_loss, new = gradients_of(there, batch, state)
        change = norm({name: new[name] - gradients[name] for name in gradients}) / slope
        losses.append(new_loss)
        changes.append(change)
        betas.append(change * size / length)
    return {
        "loss_range": max(losses) - min(losses),
        "gradient_change": max(changes),
        "smoothness": max(betas),
    }


def shift(
    task: Task, optimiser: torch.optim.Optimizer, batch: Batch, state: Tensor, gradients: Gradients
) -> dict[str, float]:
    """How far each weight matrix's gradient moves when the optimiser updates all the layers before it."""
    updated = after_a_step(task, optimiser, batch, state)
    before: set[str] = set()
    moved: list[float] = []
    cosines: list[float] = []
    for names in layers_in_order(task.model, batch):
        weights = [name for name in names if name in gradients and gradients[name].ndim >= 2]
        if weights and before:
            there = copy.deepcopy(task)
            with torch.no_grad():
                for name, parameter in there.model.named_parameters():
                    if name in before:
                        parameter.copy_(updated[name])
            _, new = gradients_of(there, batch, state)
            for name in weights:
                old_size = float(gradients[name].norm())
                moved.append(float((new[name] - gradients[name]).norm()) / old_size)
                cosines.append(
                    float(nn.functional.cosine_similarity(new[name].flatten(), gradients[name].flatten(), 0))
                )
        before.update(names)
    return {"shift": fmean(moved), "shift_cosine": fmean(cosines)}


def after_a_step(task: Task, optimiser: torch.optim.Optimizer, batch: Batch, state: Tensor) -> Mapping[str, Tensor]:
    """The parameters after the optimiser's next step on this batch, by name; the optimiser's own state stays."""
    torch.set_rng_state(state)
    probe = copy.deepcopy(task)
    same = build_optimiser(probe.model, probe.optim)
    same.load_state_dict(optimiser.state_dict())
    step(probe, same, batch)
    return {name: p.detach() for name, p in probe.model.named_parameters()}


def layers_in_order(model: nn.Module, batch: Batch) -> list[list[str]]:
    """The names of the parameters of each module that has its own, in the order of their first calls.

    A parameter that several modules share belongs to the first.
    """
    probe = copy.deepcopy(model)
    called: list[nn.Module] = []
    for module in probe.modules():
        module.register_forward_pre_hook(lambda module, _inputs: called.append(module))
    with torch.no_grad():
        probe(batch.inputs, batch.mask)
    names = {parameter: name for name, parameter in probe.named_parameters()}
    layers = [[names.pop(p) for p in module.parameters(recurse=False) if p in names] for module in called]
    return [layer for layer in layers if layer]


def _mean(values: list[float]) -> float:
    """NaN without values, as for a network of one layer."""
    return fmean(values) if values else math.nan


def norm(tensors: Gradients) -> float:
    """The Euclidean norm of all entries together."""
    return math.sqrt(sum(float(t.double().square().sum()) for t in tensors.values()))
