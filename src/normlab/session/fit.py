"""Trains a task with Lightning: validates, resumes an interrupted run, keeps the best and last weights."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping
from rich.console import Console

from normlab.config.placement import check_schedules
from normlab.folder.norms_seen import write_found
from normlab.mirror.progress import Bar, Heartbeat
from normlab.monitor.callback import NormMonitor
from normlab.session.checkpointing import KeepBest, load_best
from normlab.session.example_scores import keep_example_scores
from normlab.session.guarded import guarded
from normlab.session.resumable import check_point
from normlab.session.resumption import Noise, Resumption
from normlab.session.session import Session
from normlab.session.trainer import batches_of, build_trainer
from normlab.session.training_log import TrainingLog
from normlab.session.validation_curve import ValidationCurve
from normlab.session.validations import Validations, check_validations
from normlab.stopping.request import stop_request
from normlab.tasks.task import Task


class Fit:
    """One training.

    Args:
        session: of the run.
        task: with an untrained model.
        probes: callbacks of the measure.

    Attributes:
        log, curve: values logged in training and in validation.
        callbacks: all callbacks.
        trainer: Lightning's.
        resumption: saves resume points, and knows which conditions changed when the run was resumed.
        seconds: duration of `run`.

    Raises:
        InputError: an epoch has fewer batches than validations, by request or by the task's default, or the run ends
            before a norm's schedule does.
    """

    def __init__(self, session: Session, task: Task, probes: Sequence[pl.Callback] = ()) -> None:
        options = session.config.trainer
        self.session, self.task = session, task
        self.log, self.curve = TrainingLog(options.log_every), ValidationCurve(task.metric, task.direction)
        self.seconds = 0.0
        world_size = options.processes
        batches = session.batches("train", session.device, seed=session.seed("order"), world_size=world_size)
        if options.steps is None or options.epochs * self._epoch(len(batches)) < options.steps:
            check_schedules(session.config, options.epochs * self._epoch(len(batches)))
        if options.validations != session.config.task.validations:  # the user has chosen this number
            check_validations(options.validations, self._epoch(len(batches)))  # before a logger starts
        if options.compile:
            task.run_compiled()
        self.resumption = Resumption(session.place, session.loggers.record, options, self.curve, session.config.pause)
        # which can't see into a compiled network
        watched = options.monitor and not options.compile
        self.watch = [NormMonitor(say=lambda _: None, quiet=True)] if watched else []
        self.callbacks = [self.log, *probes, self.curve, *self._keepers(), *self.watch, *self._drivers()]
        self.trainer = build_trainer(session.config, session.place.folder, session.loggers.all, self.callbacks)

    def run(self) -> None:
        """Train, from the beginning or from where an interrupted run can resume.

        Raises:
            Stopped, Paused: the run was asked to stop, or to pause, and has been saved. The loggers are closed because
                the process may end.
        """
        started = time.perf_counter()
        batches = batches_of(self.session, self.trainer, "train", self.session.seed("order"))
        validation = batches_of(self.session, self.trainer, "validation")
        if (epoch := self._epoch(len(batches))) < len(batches):
            # the epoch ends with the run, so that its validations are spread over the steps that are trained
            self.trainer.limit_train_batches = epoch
        place = self.session.place
        if place.resume is not None:
            check_point(place, self.session.config, self.task, self.callbacks)
        with guarded(self.session, self.resumption):
            self.trainer.fit(self.task, batches, validation, ckpt_path=place.resume_checkpoint, weights_only=True)
        stop_request().hold("finishing the run because its last step is done")
        if self.trainer.is_global_zero:
            _keep_found(self.watch, self.session.place.folder)
        if not self.task.diverged:
            if self.curve.last_step != self.trainer.global_step:
                self._validate_at_end(validation)
            self.trainer.save_checkpoint(self.session.place.last)
        self.seconds = time.perf_counter() - started

    def load_best(self) -> None:
        """Load the weights of the best validation; there must be one."""
        load_best(self.session.place, self.curve, self.task)

    def test(self) -> dict[str, float]:
        """Test metrics of the last weights, unless the run diverged, and of the best ones, if there are any."""
        best, found = self.curve.best(), {}
        if not self.task.diverged:
            both = best is self.curve.rows[-1]
            found = self._tested_as("test" if both else "last_test")
            if both:
                return found | {name.replace("test/", "last_test/"): value for name, value in found.items()}
        if best is not None:
            self.load_best()
            found |= self._tested_as("test")
        return found

    def _tested_as(self, name: str) -> dict[str, float]:
        self.task.tested_as = name
        batches = batches_of(self.session, self.trainer, "test")
        found = self.trainer.test(self.task, batches, verbose=False)[0]
        if name == "test":
            keep_example_scores(self.session, self.trainer, self.task, batches)
        return {key: value for key, value in found.items() if "/" in key}

    def _epoch(self, batches: int) -> int:
        """Number of batches used per epoch, when there are so many."""
        options = self.session.config.trainer
        return min(batches, *(limit for limit in (options.batches, options.steps, batches) if limit is not None))

    def _validate_at_end(self, validation: Any) -> None:
        """Validate and save a run that `trainer.steps` or `trainer.minutes` ended between two validations."""
        self.trainer.validate(self.task, validation, verbose=False)
        if self.curve.best() is self.curve.rows[-1]:
            self.trainer.save_checkpoint(self.session.place.best)

    def _keepers(self) -> list[pl.Callback]:
        """The callbacks that keep the best checkpoint, and stop when there has been no better one for long."""
        monitor, patience = f"validation/{self.task.metric}", self.session.config.trainer.patience
        keep = KeepBest(self.session.place, self.curve)
        if patience is None:
            return [keep]
        return [keep, EarlyStopping(monitor, mode=self.task.direction, patience=patience, check_finite=False)]

    def _drivers(self) -> list[pl.Callback]:
        """The callbacks that make a run resumable, schedule its validations and show its progress."""
        config, place = self.session.config, self.session.place
        drivers: list[pl.Callback] = [
            Validations(config.trainer.validations),
            Noise(config.seed),
            Heartbeat(place),
            self.resumption,
        ]
        return [*drivers, Bar(Console(), self._shown())] if config.trainer.progress else drivers

    def _shown(self) -> dict[str, str]:
        metric = self.task.metric
        return {"validation loss": "validation/loss", metric.replace("_", " "): f"validation/{metric}"}


def _keep_found(monitors: list[NormMonitor], folder: Path) -> None:
    """Write what the monitor found into the run's folder. An error of the monitor is said, and ends no run."""
    for monitor in monitors:
        try:
            report = monitor.report()
            write_found(folder, report.brief(), report.to_dict())
            failed = monitor.failed
        except Exception as error:
            failed = f"{type(error).__name__}: {error}"
        if failed:
            print(f"the norms were not watched to the end: {failed}", file=sys.stderr)
