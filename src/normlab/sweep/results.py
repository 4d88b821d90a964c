"""A run's result in a number: the validation value by which its best checkpoint was chosen, or what a probe found."""

from __future__ import annotations

from typing import Any

# metric → is more better? In the order of what a task is judged by; see `Task.metric`.
METRICS = {"accuracy": True, "bits_per_character": False, "perplexity": False, "loss": False}
PROBED = (
    *("gradient_growth", "train/examples", "moved_by_examples", "step_ratio", "inference_ratio", "update_share"),
    *("leak/train_mode_accuracy", "log2_ceiling", "gradient_ratio", "gradient_difference"),
)  # what other measures find first, of which neither side is better


def main_value(summary: dict[str, Any]) -> tuple[str, float] | None:
    """Name and value of the main metric; None if there is none, as in a run that diverged at once."""
    for name in METRICS:
        value = summary.get(f"validation/{name}")
        if isinstance(value, int | float):
            return name, float(value)
    return None


def shown_value(summary: dict[str, Any]) -> tuple[str, float] | None:
    """The main metric's, or what a probe found."""
    probed = [(name, float(summary[name])) for name in PROBED if isinstance(summary.get(name), int | float)]
    return main_value(summary) or next(iter(probed), None)


def show_value(value: tuple[str, float]) -> str:
    """`bits per character 1.7600`."""
    return f"{value[0].replace('_', ' ')} {value[1]:.4f}"


def is_better(name: str, one: float, other: float) -> bool:
    """Is the first the better value of that metric?"""
    return one > other if METRICS[name] else one < other
