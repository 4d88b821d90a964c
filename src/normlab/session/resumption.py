"""Saves an unfinished run so that, once resumed, it gives the same bits as an uninterrupted run.

A step is a function of the weights, the optimiser, the batch and the noise. A resume point stores the first two; the
order of examples and the noise are pure functions of (seed, epoch) and (seed, process, step), so they follow from
the position. Resume points are saved only at the beginning of a training batch, when the previous step, its validation
and its logging are complete, and never in one of the partial states of Lightning's loops.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch

from normlab.config.measures.training import least_steps
from normlab.config.schema import TrainerConfig
from normlab.config.seeds import derive
from normlab.data.loader import Shares
from normlab.folder.place import Place
from normlab.folder.resume_points import ResumePoint, add_point
from normlab.session.conditions import change, conditions
from normlab.session.record import RunRecord
from normlab.session.validation_curve import Curve
from normlab.stopping.request import Paused, stop_request
from normlab.tasks.task import Task


class Resumption(pl.Callback):
    """Saves resume points at intervals of steps or wall-clock time, when the run is asked to stop, and when it pauses.

    Args:
        pause: the share of the steps after which it pauses, at its next validation; None: it doesn't.
    """

    def __init__(
        self, place: Place, record: RunRecord, options: TrainerConfig, curve: Curve, pause: float | None
    ) -> None:
        self.place = place
        self.pause = pause
        self.record = record
        self.options = options
        self.curve = curve
        self.request = stop_request()
        self._saved_step = place.resume.step if place.resume else 0
        self._saved_at = time.monotonic()
        self._batch = 0  # batches done in this epoch
        self._conditions: dict[str, str] = {}
        self.changes: list[str] = []  # of conditions that the bits depend on, each with its step
        self.trains = False  # a step has been done since training started or resumed

    def on_train_start(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Resume with the next batch; from here on, a request to stop waits until the run can be saved."""
        self._compare(trainer, task)
        batches = getattr(trainer.train_dataloader, "batch_sampler", None)
        if isinstance(batches, Shares):  # a Lightning project has its own loaders, which `project.order` resumes
            batches.skip = self._batch
        self._saved_at = time.monotonic()
        self.request.hold("saving before the next step")

    def on_train_batch_start(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Save if it is time; stop if asked to, or if it has come as far as it should.

        Raises:
            Paused: it has; it was saved.
        """
        self._batch = batch_idx
        stop, late = self.request.signum is not None, self._is_late()
        if trainer.world_size > 1:  # all processes decide together, which costs a message
            asked = trainer.global_step % self.options.log_every == 0
            stop = asked and trainer.strategy.reduce_boolean_decision(stop, all=False)
            late = asked and trainer.strategy.reduce_boolean_decision(late, all=False)
        every = self.options.save_steps
        pause = self._pauses(trainer)
        due = late or stop or pause or (every is not None and trainer.global_step % every == 0)
        if batch_idx % trainer.accumulate_grad_batches != 0:  # gradients of earlier batches would be lost
            return
        if due and trainer.global_step > self._saved_step:
            self._save(trainer)
        if stop:
            self.request.obey()
        if pause:
            raise Paused(trainer.global_step, int(trainer.estimated_stepping_batches))

    def on_train_batch_end(self, *_: Any) -> None:
        """Note that a step with the restored state has worked."""
        self.trains = True

    def state_dict(self) -> dict[str, Any]:
        """The position in the epoch, and the conditions of the run so far."""
        return {"batch": self._batch, "conditions": self._conditions, "changes": self.changes}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lightning calls this before the training starts."""
        self._batch, self._conditions, self.changes = state["batch"], state["conditions"], list(state["changes"])

    def _compare(self, trainer: pl.Trainer, task: pl.LightningModule) -> None:
        """Warn and record if the resumed run won't give the same bits as an uninterrupted run.

        It resumes all the same: the work done is worth more than the last bits, and a cluster resumes on any machine.
        """
        now = conditions(task.model if isinstance(task, Task) else task, task.device)
        changed = change(self._conditions, now) if self._conditions else ""
        self._conditions = now
        if changed:
            self.changes.append(f"from step {trainer.global_step}: {changed}")
            if trainer.is_global_zero:
                print(
                    f"resumed under different conditions ({changed}): the result may "
                    "differ in its last digits from that "
                    "of an uninterrupted run, and its summary says so; rerun=true starts from the beginning",
                    file=sys.stderr,
                    flush=True,
                )

    def _pauses(self, trainer: pl.Trainer) -> bool:
        """Has the run just validated, with that share of its steps done?"""
        if self.pause is None or self.curve.last_step != trainer.global_step:
            return False
        return trainer.global_step >= least_steps(self.pause, int(trainer.estimated_stepping_batches))

    def _is_late(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.options.save_minutes

    def _save(self, trainer: pl.Trainer) -> None:
        has_best = self.curve.best() is not None
        point = ResumePoint.after(trainer.global_step, self.record.rows, has_best=has_best)
        trainer.save_checkpoint(point.checkpoint(self.place))
        if trainer.is_global_zero:
            add_point(self.place.folder, point)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()


class Noise(pl.Callback):
    """Makes dropout and other noise a pure function of (seed, process, step)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, task: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Seed the device's generator only, because torch.manual_seed looks for every kind of device each time."""
        seed = derive(self.seed, "noise", trainer.global_rank, trainer.global_step)
        torch.default_generator.manual_seed(seed)
        if task.device.type == "cuda":
            torch.cuda.manual_seed(seed)
