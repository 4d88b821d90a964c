"""What a finding's contrasts mean for choosing a norm: under which conditions, and which norm they favour."""

from __future__ import annotations

from typing import Literal

from normlab.config.strict import Strict

Model = Literal["cnn", "lstm", "gru", "transformer", "vit", "mlp"]
When = Literal[
    "many_examples",
    "few_examples",
    "variable_lengths",
    "unseen_lengths",
    "one_feature",
    "causal",
    "sorted_batches",
    "independence",
    "depth",
    "high_rates",
    "few_steps",
    "single_example",
    "training_time",
    "inference_time",
    "memory",
    "evaluation_gap",
    "segmentation",
    "pretraining",
    "small_data",
]
CONDITIONS: dict[When, str] = {  # in the order of the matrix
    "many_examples": "statistics over many examples (64 or more)",
    "few_examples": "statistics over few examples (2 to 16)",
    "variable_lengths": "padded sequences of varying length",
    "unseen_lengths": "longer sequences than in training",
    "one_feature": "series with one number per time step",
    "causal": "language model: no position may see later ones",
    "sorted_batches": "batches sorted by class",
    "independence": "examples of a batch must not influence each other in training",
    "depth": "deep, with an activation whose gradients vanish",
    "high_rates": "large learning rates",
    "few_steps": "few training steps",
    "single_example": "time of a training step with one example",
    "training_time": "time of a training step",
    "inference_time": "time of inference",
    "memory": "memory that training keeps for the backward pass",
    "evaluation_gap": "good in training, worse in evaluation mode",
    "segmentation": "segmentation or detection, a few large images per step",
    "pretraining": "pre-training on large data",
    "small_data": "training on small data",
}


class Advice(Strict):
    """One entry of a finding's `advice`: a cell of the model × condition matrix, and the contrast that fills it."""

    model: Model
    when: When
    contrast: str | None = None  # its name in the verdict; None: rule=exact, all bounds together
    plus: str  # the norm to prefer if the contrast is positive, or the bounds hold
    minus: str  # the norm to prefer if it is negative
