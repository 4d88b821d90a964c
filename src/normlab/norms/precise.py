"""Precise statistics: computed from many batches with the current weights, instead of a moving average."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from normlab.norms.running import RunningNorm


def needs_refreshing(model: nn.Module) -> bool:
    """Does any norm of the model need `refresh_statistics` before an evaluation?"""
    return bool(_norms(model))


@contextmanager
def refresh_statistics(model: nn.Module) -> Iterator[None]:
    """Replace the running statistics of batch norms with `evaluation=precise` by precise ones.

    Within the context, run the model over training batches, in eval mode so that dropout is off: these norms
    normalise with batch statistics, as in training, and pool the exact moments of their inputs. When the context
    ends, the pooled mean and unbiased variance, over all processes, become the running statistics.
    """
    norms = _norms(model)
    for norm in norms:
        norm.collect()
    try:
        yield
        for norm in norms:
            norm.adopt_collected()
    finally:
        for norm in norms:
            norm.collected = None


def _norms(model: nn.Module) -> list[RunningNorm]:
    return [m for m in model.modules() if isinstance(m, RunningNorm) and m.evaluation == "precise"]
