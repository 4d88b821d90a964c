"""Runs that can be compared, and are probably not what they are taken for: sentences for the user."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

from normlab.logs.columns import Found

_LOWER = {
    *("loss", "error", "err", "mse", "rmse", "mae", "mape", "nll", "perplexity", "ppl", "bpc", "bpb", "wer", "cer"),
    *("fid", "ece", "brier", "regret", "divergence", "time", "latency", "seconds"),
}
_HIGHER = {
    *("accuracy", "acc", "f1", "auc", "auroc", "auprc", "iou", "miou", "dice", "r2", "psnr", "ssim", "bleu"),
    *("precision", "recall", "top1", "top5"),
}
# as in neg_mean_squared_error
_TURNED = {"neg", "negative", "minus", "reduction", "decrease", "improvement", "speedup"}


def doubts(found: Found, *, lower: bool) -> list[str]:
    """About the direction of the metric, its unit, and the names of the arms.

    Args:
        found: the runs.
        lower: lower values of the metric count as better.
    """
    return [*_direction(found.metric, lower=lower), *_unit(found), *_alike(found)]


def _direction(metric: str, *, lower: bool) -> list[str]:
    words = set(re.findall("[a-z]+[0-9]*", re.sub("([a-z])([A-Z])", r"\1 \2", metric).lower()))
    if words & _TURNED or not words & (_HIGHER if lower else _LOWER) or words & (_LOWER if lower else _HIGHER):
        return []
    if lower:
        return [f"lower values of {metric} count as better, as --lower says: leave it out if higher ones are"]
    return [f"higher values of {metric} count as better: if lower ones are, as its name suggests, add --lower"]


def _unit(found: Found) -> list[str]:
    """Shares of 1 among percentages: two groups of values, about a hundred times apart."""
    values = np.array([value for arm in found.runs for value in arm.values()])
    values = values[np.isfinite(values)]
    shares, others = values[values <= 1], values[values > 1]
    if not len(shares) or not len(others) or values.min() < 0 or values.max() > 100 or others.min() < 10:
        return []
    times = float(np.median(others) / max(np.median(shares), 1e-9))
    if not 50 <= times <= 200:
        return []
    return [
        f"{len(shares)} values of {found.metric} are at most 1 and {len(others)} are {others.min():g} to "
        f"{others.max():g}: are these shares of 1 and percentages?"
    ]


def _alike(found: Found) -> list[str]:
    """Arms that may be one under two names."""
    first, second = found.arms
    said = [f"the arms {first!r} and {second!r} have almost the same name"] if _plain(first) == _plain(second) else []
    for arm in found.arms:
        others = [name for name in found.others if _plain(name) == _plain(arm)]
        said += (
            [f"not compared: the runs of {_shown(others)}, by their names other arms than {arm!r}"] if others else []
        )
    return said


def _plain(name: str) -> str:
    """A name without its case, the number of its spaces and what nobody sees."""
    seen = "".join(letter for letter in name.casefold() if unicodedata.category(letter) != "Cf")
    return " ".join(seen.split())


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:5]) + ", …" * (len(names) > 5)
