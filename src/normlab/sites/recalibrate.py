"""Running statistics after a swap, and what the swap does to a trained network's loss."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from normlab.config.errors import InputError
from normlab.norms.base import Norm
from normlab.norms.batch import BatchNorm
from normlab.sites.forward import forward, in_one_line
from normlab.sites.swap import swap_norms


def recalibrate(net: nn.Module, batches: Iterable[Any]) -> int:
    """Recompute the running statistics of all batch norms, normlab's and torch's, from batches; returns their number.

    The network runs in eval mode, so dropout is off, but batch norms normalise with the batch. normlab's then have the
    exact mean and unbiased variance over all batches; torch's the average of those of each batch.

    Args:
        net: is changed only in its running statistics.
        batches: each as `example` in `norm_sites`.

    Raises:
        InputError: there is no batch, or the network does not accept one. The statistics are as before then, as are
            those of norms that no batch reaches.
    """
    ours = [module for module in net.modules() if isinstance(module, BatchNorm)]
    theirs = [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    modes = [(module, module.training) for module in net.modules()]
    seen = 0
    with torch.no_grad(), _averaging(theirs):
        try:
            net.eval()
            for norm in ours:
                norm.collect()
            for other in theirs:
                other.train()
            for batch in batches:
                _run(net, batch)
                seen += 1
            if not seen:
                raise InputError("recalibration needs at least one batch")
            for norm in ours:
                norm.adopt_collected()
        finally:
            for norm in ours:
                norm.collected = None
            for module, mode in modes:
                module.training = mode
    return len(ours) + len(theirs)


def _run(net: nn.Module, batch: Any) -> None:
    try:
        forward(net, batch)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{type(net).__name__} does not accept a batch: {in_one_line(error)}") from error


@contextmanager
def _averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Within the context, torch's batch norms average the statistics of all batches equally.

    After an error, and where no batch has come, they are as before.
    """
    before = [(norm.momentum, [(buffer, buffer.clone()) for buffer in norm.buffers()]) for norm in norms]
    failed = True
    try:
        for norm in norms:
            norm.momentum = None
            norm.reset_running_stats()
        yield
        failed = False
    finally:
        for norm, (momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            for buffer, old in buffers if failed or not norm.num_batches_tracked else ():
                buffer.copy_(old)


def _scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor | int | float) or (isinstance(loss, Tensor) and loss.numel() != 1):
        found = f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        raise InputError(f"the loss of a batch must be a number, not {found}")
    return torch.as_tensor(loss, dtype=torch.float64).reshape(())


@dataclass(frozen=True)
class Damage:
    """Mean loss of a trained network over the same batches, in eval mode; prints as a table.

    before             as it is
    swapped            right after the swap, gains and biases carried
    recalibrated       with running statistics of these batches; None: the new norms have none
    fresh              as `recalibrated` or else `swapped`, with fresh gains and biases
    """

    norm: str
    before: float
    swapped: float
    recalibrated: float | None
    fresh: float

    def __str__(self) -> str:
        rows = [("before", self.before), (f"norm={self.norm}, gains carried", self.swapped)]
        rows += [] if self.recalibrated is None else [("  statistics recalibrated", self.recalibrated)]
        rows += [(f"norm={self.norm}, fresh gains", self.fresh)]
        return "\n".join(f"{name:<34} loss {value:.4g}" for name, value in rows)


def damage(
    net: nn.Module,
    norm: str | type[Norm],
    example: Any,
    batches: Iterable[Any],
    loss: Callable[[nn.Module, Any], Tensor],
    **swap: Any,
) -> Damage:
    """What a swap does to a trained network's loss, without changing the network.

    Args:
        net: trained.
        norm, example, swap: as in `swap_norms`.
        batches: to compute the loss and to recalibrate with.
        loss: of the network on one batch, a scalar: `lambda net, batch: cross_entropy(net(batch[0]), batch[1])`.

    Raises:
        InputError: what `swap_norms` and `recalibrate` refuse, or there is no batch.
    """
    batches = list(batches)  # they are used several times
    if not batches:
        raise InputError("damage needs at least one batch")
    if "carry" in swap:
        raise InputError("damage has no option carry: it measures both")

    def mean(changed: nn.Module) -> float:
        with torch.no_grad():
            losses = [_scalar(loss(changed.eval(), batch)) for batch in batches]
            return float(torch.stack(losses).mean())

    found: list[tuple[float, float | None]] = []
    for carry in (True, False):
        changed = copy.deepcopy(net)
        swap_norms(changed, norm, example, carry=carry, **swap)
        right_after = mean(changed)
        statistics = any(isinstance(module, BatchNorm) for module in changed.modules())
        if statistics:
            recalibrate(changed, [lambda net, batch=batch: loss(net, batch) for batch in batches])
        found.append((right_after, mean(changed) if statistics else None))
    (swapped, recalibrated), (fresh, fresh_recalibrated) = found
    name = norm if isinstance(norm, str) else norm.__name__
    return Damage(
        name,
        mean(copy.deepcopy(net)),
        swapped,
        recalibrated,
        fresh if fresh_recalibrated is None else fresh_recalibrated,
    )
