"""Why a network is worse in evaluation than in training: its mode, its statistics, or the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from normlab.config.errors import InputError
from normlab.probes.undisturbed import undisturbed
from normlab.sites.forward import in_one_line
from normlab.sites.recalibrate import recalibrate


@dataclass(frozen=True)
class Gap:
    """Evaluation loss minus training loss, in parts that add up to it; prints as a table.

    train       mean loss in training mode over training batches, as a training reports it
    mode        what eval mode adds on the same batches, with running statistics recomputed from them: dropout is off,
                and no batch is normalised with its own statistics
    statistics  what the network's own running statistics add on the same batches
    data        what the evaluation batches add
    own         loss on the evaluation batches with statistics recomputed from those; far below `evaluation`: the
                statistics don't fit these data, and the weights do
    """

    train: float
    mode: float
    statistics: float
    data: float
    own: float

    @property
    def evaluation(self) -> float:
        """Mean loss in eval mode over evaluation batches."""
        return self.train + self.mode + self.statistics + self.data

    def __str__(self) -> str:
        rows = {
            "training mode, training batches": f"{self.train:.4g}",
            "  eval mode": f"{self.mode:+.4g}",
            "  its running statistics": f"{self.statistics:+.4g}",
            "  evaluation batches": f"{self.data:+.4g}",
            "eval mode, evaluation batches": f"{self.evaluation:.4g}",
            "with statistics of the evaluation batches": f"{self.own:.4g}",
        }
        return "\n".join(f"{name:<42} loss {value:>8}" for name, value in rows.items())


def train_eval_gap(
    net: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batches: Iterable[Any], evaluation: Iterable[Any]
) -> Gap:
    """Decompose the gap between training and evaluation. The network is as before afterwards, and no gradient is taken.

    Args:
        net: with its weights after training.
        loss: mean loss of the network on a batch, as in training: `loss(net, batch)`.
        batches: of the training data, composed as in training; at least one.
        evaluation: of the evaluation data; at least one.

    Raises:
        InputError: there is no batch, or the loss can't be computed from a batch alone.
    """
    batches, evaluation = list(batches), list(evaluation)
    if not batches or not evaluation:
        raise InputError("the gap between training and evaluation needs at least one batch of each")
    with undisturbed(net, seed=0), torch.no_grad():
        train = _mean(net.train(), loss, batches)
    with undisturbed(net, seed=0), torch.no_grad():
        evaluated, shifted = (_mean(net.eval(), loss, each) for each in (batches, evaluation))
    refreshed = []
    for each in (batches, evaluation):
        with undisturbed(net, seed=0), torch.no_grad():
            recalibrate(net, [partial(_called, loss, batch) for batch in each])
            refreshed.append(_mean(net.eval(), loss, each))
    return Gap(train, refreshed[0] - train, evaluated - refreshed[0], shifted - evaluated, refreshed[1])


def _called(loss: Callable[[nn.Module, Any], Tensor], batch: Any, net: nn.Module) -> Tensor:
    return loss(net, batch)


def _mean(net: nn.Module, loss: Callable[[nn.Module, Any], Tensor], batches: list[Any]) -> float:
    try:
        return float(sum(float(loss(net, batch)) for batch in batches) / len(batches))
    except Exception as error:
        raise InputError(f"the loss can't be computed from a batch alone: {in_one_line(error)}") from error
