"""Precise statistics: the population's, from many batches, instead of a moving average of stale ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from normlab.norms.batch import BatchNorm


def needs_refreshing(model: nn.Module) -> bool:
    """Whether a norm of the model wants `refresh_statistics` before an evaluation."""
    return bool(_norms(model))


@contextmanager
def refresh_statistics(model: nn.Module) -> Iterator[None]:
    """Replace the running statistics of batch norms with `evaluation=precise` by the population's.

    Within the context, run the model over training batches, in eval mode so that dropout is silent: these
    norms normalise with batch statistics, as in training, and pool the exact moments of what they see. On
    leaving it the pooled mean and unbiased variance, over all processes, become the running statistics.
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


def _norms(model: nn.Module) -> list[BatchNorm]:
    return [m for m in model.modules() if isinstance(m, BatchNorm) and m.evaluation == "precise"]
