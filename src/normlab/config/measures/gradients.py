"""Measures of gradients and learning rates in untrained networks. Imports no torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat

from normlab.config.components import kind_of
from normlab.config.errors import InputError
from normlab.config.measures.base import CROSS_ENTROPY, MOST, Measure, Rows, Summary, number

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig
    from normlab.config.signature import Signature


class Untrained(Measure):
    """What the measures here share: one process, which trains no longer than it says itself, and no test split."""

    processes = "one"
    reads_test = False
    trains = False
    scores = False


class GradientGrowth(Untrained):
    """How much gradients grow per layer on their way back through an untrained network."""

    headline = ("gradient_growth",)
    summary: ClassVar[tuple[str, ...]] = (
        *("gradient_growth", "gradient_steadiness", "activation_growth", "output_cosine"),
        *("gradient_log10_first", "gradient_log10_last", "layers", "first_layer", "last_layer"),
    )

    name: Literal["gradient_growth"]
    batch_size: Annotated[int, Field(ge=2, le=MOST)]  # examples
    inputs: Literal["gaussian", "data"]
    skip: Annotated[float, Field(ge=0, lt=0.5)]  # share of the layers at each end that is left out of the fit
    steps: Literal[0, 1]  # optimiser steps before measuring

    def check(self, config: RunConfig, model: Signature) -> None:
        """The model needs layers to compare."""
        _check_depth(config, model)
        if self.inputs == "gaussian" and kind_of(config.task) == "tokens":
            raise InputError(
                f"measure.inputs=gaussian can't replace the tokens of task={config.task.name}: use measure.inputs=data"
            )

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """Growth both ways, gradients at both ends, and the similarity of two outputs."""
        first, last, layers = summary["first_layer"], summary["last_layer"], summary["layers"]
        return [
            ("gradient growth", f"{number(summary['gradient_growth'])} per layer backwards, from {last} to {first}"),
            ("activation growth", f"{number(summary['activation_growth'])} per layer, from {first} to {last}"),
            (
                "gradient, log10 RMS",
                f"{number(summary['gradient_log10_first'], '+.2f')} at layer 1, "
                f"{number(summary['gradient_log10_last'], '+.2f')} at layer {layers} (whose output gradient is random)",
            ),
            ("cosine", f"{number(summary['output_cosine'])} between the outputs of two examples at layer {layers}"),
        ]


def _check_depth(config: RunConfig, model: Signature) -> None:
    """Does the model have at least two hidden layers whose gradients can be compared?"""
    if model.constants["recurrent"]:
        raise InputError(
            f"measure=gradient_growth compares layers, but the depth of model={config.model_name} is time: "
            "use model=mlp, cnn, transformer"
        )
    if not model.constants["depth"]:
        raise InputError(
            f"measure=gradient_growth compares layers, but model={config.model_name} does not say which it "
            "has: define depth and hidden_layers() in its class, see normlab.models.base.Model"
        )
    counts = {name: config.model[name] for name in model.constants["depth"] if name in config.model}
    if len(counts) == len(model.constants["depth"]) and math.prod(counts.values()) < 2:
        options = " ".join(f"model.{name}={count}" for name, count in counts.items())
        raise InputError(f"measure=gradient_growth needs at least two hidden layers; {options} gives one")


class GradientInTime(Untrained):
    """How much gradients grow per time step on their way back through an untrained recurrent network."""

    headline = ("gradient_per_step",)
    summary: ClassVar[tuple[str, ...]] = (
        *("gradient_per_step", "gradient_steadiness", "gradient_log10_first", "gradient_log10_last"),
        *("time_steps", "first_step", "last_step", "kernel"),
    )

    name: Literal["gradient_in_time"]
    batch_size: Annotated[int, Field(ge=2, le=MOST)]  # examples
    skip: Annotated[float, Field(ge=0, lt=0.5)]  # share of the steps at each end that is left out of the fit

    def check(self, config: RunConfig, model: Signature) -> None:
        """The model must read a sequence step by step, in one direction."""
        if not model.constants["recurrent"] or not model.constants["depth"]:
            raise InputError(
                f"measure=gradient_in_time follows gradients through a recurrence, but model={config.model_name} has "
                "none: use model=lstm, or measure=gradient_growth for gradients through layers"
            )
        if config.model.get("bidirectional"):
            raise InputError("measure=gradient_in_time needs one direction of time: set model.bidirectional=false")

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """Growth per step, and gradients at both ends."""
        return [
            (
                "gradient per step",
                f"{number(summary['gradient_per_step'])} backwards, from step {summary['last_step']} to "
                f"{summary['first_step']}",
            ),
            (
                "gradient, log10 RMS",
                f"{number(summary['gradient_log10_first'], '+.2f')} at the first step, "
                f"{number(summary['gradient_log10_last'], '+.2f')} at step {summary['time_steps']}",
            ),
        ]


class LearningRateCeiling(Untrained):
    """The largest learning rate at which a network still learns."""

    goals = CROSS_ENTROPY
    headline = ("log2_ceiling",)
    summary: ClassVar[tuple[str, ...]] = ("ceiling", "log2_ceiling", "ceiling_*", "rung", "tried", "entropy")

    name: Literal["learning_rate_ceiling"]
    lowest: PositiveFloat
    factor: Annotated[float, Field(gt=1)]  # between consecutive rungs
    rungs: Annotated[int, Field(ge=2, le=MOST)]
    steps: Annotated[int, Field(ge=5, le=MOST)]  # optimiser steps per rung
    share: Annotated[float, Field(gt=0, le=1)]  # share of the targets' entropy below which the loss must fall

    def check(self, config: RunConfig, model: Signature) -> None:
        """Its highest rung must be a learning rate that float32 can represent."""
        # by logarithms, because the power would overflow
        if math.log10(self.lowest) + (self.rungs - 1) * math.log10(self.factor) > _LARGEST_RATE:
            raise InputError(
                f"measure.rungs={self.rungs}: the highest rung would be a learning rate beyond "
                f"1e{_LARGEST_RATE}, which float32 can't hold; use fewer, or a smaller measure.factor"
            )


_LARGEST_RATE = 38  # its power of ten


class Trainability(Untrained):
    """How deep a network still learns, and at how many learning rates, from a given size of its initial weights."""

    headline = ("learnt_at_best",)
    summary: ClassVar[tuple[str, ...]] = ("learnt_*", "depth", "entropy")

    name: Literal["trainability"]
    depths: Annotated[list[Annotated[int, Field(ge=1, le=1000)]], Field(min_length=1)]
    rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    scale: PositiveFloat  # factor of the initial weights
    steps: Annotated[int, Field(ge=5, le=MOST)]  # optimiser steps of each training
    share: Annotated[float, Field(gt=0, le=1)]  # share of the targets' entropy below which the loss must fall

    def check(self, config: RunConfig, model: Signature) -> None:
        """The model must have a depth, and the depths must rise."""
        if "depth" not in config.model:
            raise InputError(
                f"measure=trainability varies model.depth, which model={config.model_name} lacks: use mlp or cnn"
            )
        if self.depths != sorted(set(self.depths)):
            raise InputError(f"measure.depths={self.depths}: list each depth once, in ascending order")


class Landscape(Untrained):
    """How smooth the loss is along the path of training, and the internal covariate shift of the layers."""

    headline = ("smoothness",)
    summary: ClassVar[tuple[str, ...]] = (
        *("loss_range", "gradient_change", "smoothness", "shift", "shift_cosine", "looks"),
    )

    name: Literal["landscape"]
    steps: Annotated[int, Field(ge=1, le=MOST)]  # optimiser steps
    looks: Annotated[int, Field(ge=1, le=MOST)]  # of them, before which it looks around
    distance: PositiveFloat  # of the farthest point, in times the weights' norm

    def check(self, config: RunConfig, model: Signature) -> None:
        """There can't be more looks than steps, and the layers must have an order."""
        if self.looks > self.steps:
            raise InputError(f"measure.looks={self.looks}: there are only measure.steps={self.steps} steps to look at")
        if model.constants["recurrent"]:
            raise InputError(
                "measure=landscape updates the layers one after the other, but the parameters of "
                f"model={config.model_name} act at every time step: use model=mlp, cnn, transformer"
            )

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """Smoothness and shift."""
        if summary["diverged"]:
            return []
        smoothness, varies = number(summary["smoothness"], ".2f"), number(summary["loss_range"])
        shift, cosine = number(summary["shift"], ".3f"), number(summary["shift_cosine"], ".3f")
        return [
            ("smoothness", f"{smoothness} (the loss varies by {varies} nats)"),
            ("covariate shift", f"{shift} of the gradient's norm, cosine {cosine}"),
        ]


class ScaleInvariance(Untrained):
    """What scaling the weights before a norm changes."""

    goals = CROSS_ENTROPY
    headline = ("step_ratio",)
    summary: ClassVar[tuple[str, ...]] = ("function_change", "unit_function_change", "gradient_ratio", "step_ratio")

    name: Literal["scale_invariance"]
    factor: Annotated[float, Field(gt=1)]
    examples: Annotated[int, Field(ge=4, le=MOST)]

    def check(self, config: RunConfig, model: Signature) -> None:
        """One layer must feed each norm."""
        if model.constants["recurrent"] or "BTC" in model.constants["layouts"]:
            raise InputError(
                f"measure=scale_invariance scales the layer before each norm, but in model={config.model_name} "
                "several layers feed a norm: use model=mlp or cnn"
            )
        if config.model.get("placement") == "pre_activation" and config.model.get("residual"):
            raise InputError(
                "measure=scale_invariance scales the layer before each norm, but with model.placement=pre_activation "
                "norms read sums of branches: use model.placement=post_conv"
            )
