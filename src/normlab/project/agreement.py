"""Keeps the processes of a run in step, where Lightning leaves it to the project."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.connectors.logger_connector.result import _ResultMetric
from torch import Tensor

from normlab.config.errors import InputError
from normlab.project.processes import gathered, several


class Agreement(pl.Callback):
    """What decides is the same in all processes: numbers of batches, and what a validation has logged.

    Each process logs a value of its own share, unless the project logs with `sync_dist=True` or torchmetrics. Here all
    get the mean, as `sync_dist=True` would give, so that all keep the same best checkpoint, stop together and have the
    same learning rate. It is not forced on the project itself, because a value that only some processes log would make
    them wait for each other for ever.

    Args:
        metric: that decides; None in a trial.

    Attributes:
        differs: the processes have logged different values of it.
    """

    def __init__(self, metric: str | None = None) -> None:
        self.metric, self.differs = metric, False
        # A network that is freed in the moment in which its last all-reduce ends would block this process for ever:
        # torch's DDP waits, with Python's lock, for a thread that needs this lock.
        self.kept: Any = None

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stand between Lightning's loops and what they read."""
        if not several():
            return
        connector, loop = trainer._logger_connector, trainer.fit_loop.epoch_loop
        update, monitored = connector.update_eval_epoch_metrics, loop._get_monitor_value

        def update_eval_epoch_metrics() -> Any:
            self._average(trainer)
            return update()

        def get_monitor_value(key: str) -> Any:
            own = monitored(key)
            known = [value for value in gathered(None if own is None else float(own)) if value is not None]
            return torch.tensor(mean(known)) if known else None

        connector.update_eval_epoch_metrics = update_eval_epoch_metrics  # type: ignore[method-assign]
        loop._get_monitor_value = get_monitor_value  # type: ignore[method-assign]

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Check that no process would wait for another for ever.

        Raises:
            InputError: one would.
        """
        self.kept = trainer.strategy.model
        for what, own in (("training", trainer.num_training_batches), ("validation", trainer.num_val_batches)):
            counts = gathered(own)
            if any(count != counts[0] for count in counts):
                raise InputError(
                    f"the project's own samplers give the processes different numbers of {what} batches ("
                    f"{', '.join(map(_number, counts))}), so one would wait for ever for another: without a sampler of "
                    "the project's own, Lightning divides the data evenly"
                )

    def state_dict(self) -> dict[str, Any]:
        """Whether they differed."""
        return {"differs": self.differs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore it."""
        self.differs = bool(state["differs"])

    def _average(self, trainer: pl.Trainer) -> None:
        """Of all that this validation has logged as numbers; torchmetrics are of all processes already."""
        results = trainer._results
        assert results is not None
        own: dict[str, tuple[_ResultMetric, Tensor]] = {}
        for key, result in results.valid_items():
            if result.is_tensor and (value := results._get_cache(result, on_step=False)) is not None:
                own[key] = result, value
        logged = gathered({key: float(value) for key, (_, value) in own.items()})
        for key, (result, value) in own.items():
            known = [one[key] for one in logged if key in one]
            vars(result)["_computed"] = value.new_tensor(mean(known))
            if results._forked_name(result, on_step=False)[0] == self.metric:
                self._compare(known, trainer)

    def _compare(self, known: list[float], trainer: pl.Trainer) -> None:
        if self.differs or math.isclose(min(known), max(known), rel_tol=1e-6) or all(map(math.isnan, known)):
            return
        self.differs = True
        if trainer.is_global_zero:
            print(
                f"each process logs {self.metric} of its own share ({min(known):.4g} to {max(known):.4g}): what counts "
                "is the mean over the processes, as with self.log(..., sync_dist=True)",
                flush=True,
            )


def mean(values: list[float]) -> float:
    """Of what several processes have logged; exactly the value if all have the same."""
    return values[0] if min(values) == max(values) else statistics.fmean(values)


def _number(count: Any) -> str:
    """Of batches, of one loader or several."""
    return "+".join(map(str, count)) if isinstance(count, list) else str(count)
