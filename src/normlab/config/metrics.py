"""Which metrics trainings log, which of them is the main one, and which values are better. Imports no torch."""

from __future__ import annotations

from fnmatch import fnmatchcase

# in the order in which a task's main metric is chosen; see `Task.metric`
MAIN = ("accuracy", "bits_per_character", "r2", "mean_iou", "perplexity", "loss")
_NUMBER = ("r2", "mae", "rmse", "loss")
# goal of a task → patterns of its metrics' names
METRICS = {
    "classification": ("accuracy", "f1", "loss"),
    "language_modelling": ("bits_per_character", "perplexity", "loss"),
    "regression": _NUMBER,
    "segmentation": ("mean_iou", "mean_dice", "pixel_accuracy", "iou_*", "dice_*", "loss"),
    "auto": ("accuracy", "f1", *_NUMBER),
}
_HIGHER = ("accuracy", "f1", "r2", "mean_iou", "mean_dice", "pixel_accuracy", "iou_*", "dice_*")
_AREA = ("accuracy", "bits_per_character", "r2", "mean_iou", "loss")  # of which a mean over training is kept


def higher_is_better(metric: str) -> bool:
    """Of a metric's name without its split."""
    return any(fnmatchcase(metric, pattern) for pattern in _HIGHER)


def metrics_of(goal: str, split: str) -> list[str]:
    """Patterns of the metrics that a training's summary has for a split such as `validation`, `last` or `area`."""
    return [name for name in METRICS[goal] if split != "area" or name in _AREA]


def is_metric(name: str, goal: str, split: str) -> bool:
    """Is it one of them?"""
    return any(fnmatchcase(name, pattern) for pattern in metrics_of(goal, split))
