"""What each measure can be asked for, and what its summaries hold. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from normlab.config.strict import Strict


class Measure(Strict):
    """What a run measures. An exclusive measure takes times: it runs alone, in a process of its own, on one thread."""

    exclusive: ClassVar[bool] = False
    summary: ClassVar[tuple[str, ...]] = ()  # patterns of the summary's columns, beside those of the task's metrics


class Training(Measure):
    """Train, validate, keep the best checkpoint."""

    name: Literal["training"]
    inside: bool = False  # look into the network at every validation, see `probes/inside.py`
    summary: ClassVar[tuple[str, ...]] = (
        "inside/*",
        "gap/*",
        "best_*",
        "steps",
        "examples",
        "train_seconds",
        "fit_seconds",
    )


class Evaluate(Measure):
    """Test a checkpoint."""

    name: Literal["evaluate"]


class GradientGrowth(Measure):
    """How gradients grow a layer on their way back through an untrained network."""

    name: Literal["gradient_growth"]
    batch_size: Annotated[int, Field(ge=2)]  # examples
    inputs: Literal["gaussian", "data"]
    skip: Annotated[float, Field(ge=0, lt=0.5)]  # share of the layers, at either end, that is not fitted
    steps: Literal[0, 1]  # optimiser steps before
    summary: ClassVar[tuple[str, ...]] = (
        *("gradient_growth", "activation_growth", "output_cosine", "gradient_log10_first", "gradient_log10_last"),
        *("layers", "first_layer", "last_layer"),
    )


class SampleCoupling(Measure):
    """Which examples and positions depend on each other."""

    summary: ClassVar[tuple[str, ...]] = ("train/*", "eval/*", "as_declared")
    name: Literal["sample_coupling"]
    examples: Annotated[int, Field(ge=2)]
    positions: Annotated[int, Field(ge=2)]  # of a language model's window, time steps


class Timing(Measure):
    """What is timed of the run's norm and of a second one, in turn: many short blocks of each."""

    exclusive: ClassVar[bool] = True
    batch_size: PositiveInt  # examples
    steps: PositiveInt  # of a block
    blocks: Annotated[int, Field(ge=3)]  # of each norm
    against: dict[str, Any] | None = None  # the second norm, a Hydra partial like RunConfig.norm; None: there is none


class StepTime(Timing):
    """How long a training step takes."""

    name: Literal["step_time"]
    summary: ClassVar[tuple[str, ...]] = ("step_*", "forward_ms*", "backward_ms*", "optimiser_ms*", "saved_bytes*")


class InferenceTime(Timing):
    """How long a forward pass in eval mode takes."""

    name: Literal["inference_time"]
    fold: bool  # a norm that can be folded exactly into the layers before it is
    summary: ClassVar[tuple[str, ...]] = ("inference_*", "fold_error*", "folded*")


class SiteTime(Timing):
    """How long a model's norms alone take, and what keeping running statistics is of batch norm's."""

    name: Literal["site_time"]
    summary: ClassVar[tuple[str, ...]] = ("site_*", "sites", "torch_ms*", "update_share")


class Axes(Measure):
    """Over which axes a norm takes its statistics."""

    name: Literal["axes"]
    examples: Annotated[int, Field(ge=4)]
    summary: ClassVar[tuple[str, ...]] = (
        *("over_*_error", "moved_by_*", "train_eval_difference", "as_declared", "*/site/*", "site/*"),
    )


class Lengths(Measure):
    """Train a language model, then read longer windows than it was trained on."""

    name: Literal["lengths"]
    lengths: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)]  # windows, tokens
    tokens: PositiveInt | None  # of each split that are read, from its beginning; None: all
    summary: ClassVar[tuple[str, ...]] = (
        *("validation/bits_per_character@*", "validation/late_bits_per_character@*", "drift", "late_drift", "drift@*"),
        *("test/bits_per_character@*", "test/late_bits_per_character@*", "late_drift@*"),
    )


class LearningRateCeiling(Measure):
    """The largest learning rate at which a network still learns."""

    name: Literal["learning_rate_ceiling"]
    lowest: PositiveFloat
    factor: Annotated[float, Field(gt=1)]  # from rung to rung
    rungs: Annotated[int, Field(ge=2)]
    steps: Annotated[int, Field(ge=5)]  # optimiser steps a rung
    share: Annotated[float, Field(gt=0, le=1)]  # of the targets' entropy, that the loss must come below
    summary: ClassVar[tuple[str, ...]] = ("ceiling", "log2_ceiling", "ceiling_*", "rung", "tried", "entropy")


class Leakage(Measure):
    """Whether a network can tell what only another example of its batch shows."""

    name: Literal["leakage"]
    steps: PositiveInt  # optimiser steps
    summary: ClassVar[tuple[str, ...]] = ("leak/*",)


class ScaleInvariance(Measure):
    """What scaling the weights before a norm changes."""

    name: Literal["scale_invariance"]
    factor: Annotated[float, Field(gt=1)]
    examples: Annotated[int, Field(ge=4)]
    summary: ClassVar[tuple[str, ...]] = ("function_change", "unit_function_change", "gradient_ratio", "step_ratio")


class SyncEquivalence(Measure):
    """Whether two processes that synchronise batch norm compute what one would."""

    name: Literal["sync_equivalence"]
    examples: Annotated[int, Field(ge=8)]  # of both processes together
    summary: ClassVar[tuple[str, ...]] = ("*_difference", "*_difference_unsynced")


# What a run measures, with the options of that measure alone.
MeasureConfig = Annotated[
    Training
    | Evaluate
    | GradientGrowth
    | SampleCoupling
    | StepTime
    | InferenceTime
    | SiteTime
    | Axes
    | Lengths
    | LearningRateCeiling
    | Leakage
    | ScaleInvariance
    | SyncEquivalence,
    Field(discriminator="name"),
]
