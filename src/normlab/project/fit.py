"""Trains a Lightning project with its norms replaced: validates, resumes, keeps the best and last weights."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from rich.console import Console

from normlab.config.errors import InputError
from normlab.mirror.progress import Bar, Heartbeat
from normlab.models.build import factory
from normlab.models.checkpoint import read_checkpoint
from normlab.networks.replaced import Named, replaced
from normlab.project.agreement import Agreement
from normlab.project.callbacks import (
    Clock,
    Described,
    LoggedCurve,
    Patience,
    Pending,
    ProjectLogger,
    Scheduled,
)
from normlab.project.gradients import SEARCHING, said_of
from normlab.project.options import ProjectConfig
from normlab.project.order import Order
from normlab.project.processes import gathered, rank
from normlab.project.project import Project, build
from normlab.project.trial import Trial, failing, fit, trainer_options
from normlab.session.checkpointing import KeepBest
from normlab.session.guarded import guarded
from normlab.session.resumable import check_point
from normlab.session.resumption import Noise, Resumption
from normlab.session.session import Session
from normlab.session.trainer import build_trainer
from normlab.session.validations import Validations
from normlab.sites.swap import SwapReport
from normlab.stopping.request import stop_request


class ProjectFit:
    """One training of a project.

    Args:
        session: of the run.
        options: of the project.
        tried: its trial.

    Attributes:
        project: untrained, with its own norms until `run`.
        curve: all validations.
        agreement: of its processes.
        report: of the replaced norms; None if the project keeps its own.
        repeatable: were the first batches the same when drawn twice?
        seconds: duration of `run`.
    """

    def __init__(self, session: Session, options: ProjectConfig, tried: Trial) -> None:
        config, place = session.config, session.place
        self.session, self.options, self.tried = session, options, tried
        self.project: Project = build(config, options)
        self.report: SwapReport | None = None
        self.seconds, self.repeatable = 0.0, True
        self.order, self.clock = Order(config.seed, tried.first), Clock()
        self.agreement = Agreement(options.metric)
        assert options.metric is not None
        self.curve = LoggedCurve(options.metric, options.direction, self.clock)
        record = session.loggers.record
        self.resumption = Resumption(place, record, config.trainer, self.curve, config.pause)
        self.callbacks = [self.agreement, self.clock, self.curve, *self._keepers(), self.order, *self._drivers()]
        loggers = [ProjectLogger(place.folder, record, session.loggers.mirrors), *session.loggers.mirrors]
        strategy = SEARCHING if tried.unused else "ddp"
        if tried.unused and options.trainer.strategy is None and rank() == 0:
            print(said_of(tried.unused), flush=True)
        self.trainer = build_trainer(
            config,
            place.folder,
            loggers,
            [*self.callbacks, *self.project.callbacks],
            trainer_options(config, options, strategy),
        )

    def run(self) -> None:
        """Train, from the beginning or from where an interrupted run can resume.

        Raises:
            InputError: a norm can't be replaced, or the resume point is of other data.
            Stopped, Paused: the run was asked to stop, or to pause, and has been saved.
        """
        started, place = time.perf_counter(), self.session.place
        if place.resume is not None:
            check_point(place, self.session.config, self.project.module, self.callbacks)
            self._check_batches()
        self._replace_when_built()
        with failing(self.options), guarded(self.session, self.resumption):
            fit(
                self.project,
                self.trainer,
                self.order,
                self.session.config,
                ckpt_path=place.resume_checkpoint,
                weights_only=True,
            )
        stop_request().hold("finishing the run because its last step is done")
        if not self.curve.diverged:
            if self.curve.last_step != self.trainer.global_step:
                self._validate_at_end()
            self.trainer.save_checkpoint(place.last)
        self.repeatable = all(gathered(self.order.repeatable))
        if not self.repeatable and self.session.config.trainer.progress and rank() == 0:
            print(
                "the project's data differ from draw to draw with the same seed, so the runs of a seed don't share "
                "their batches, and a resumed run isn't the same as an uninterrupted one",
                flush=True,
            )
        self.seconds = time.perf_counter() - started

    def _replace_when_built(self) -> None:
        """Replace the norms once the network is built, be it by the constructor, `setup` or `configure_model`."""
        module, calls = self.project.module, self.tried.calls
        norm, named = factory(self.session.config.norm), Named(f"project={self.options.target}", "project.only")
        original, built = module.configure_model, list[bool]()

        def configure_model() -> None:
            if built:  # Lightning calls this again for a validation
                return
            built.append(True)
            original()
            precision = self.trainer.precision_plugin
            precision.convert_module(module)
            calls.context = precision.forward_context
            self.report = replaced(module, norm, calls, self.options.only, named)

        module.configure_model = configure_model  # type: ignore[method-assign]

    def _check_batches(self) -> None:
        """Are the first batches those of the run's beginning? Not asked if they differ with each draw."""
        path = self.session.place.resume_checkpoint
        assert path is not None
        before = read_checkpoint(path)["first_batches"]
        hashes = before["hashes"][self.trainer.global_rank]
        if before["repeatable"] and hashes != self.tried.first[: len(hashes)]:
            raise InputError(
                f"{path} can't be resumed: the first batches of the project's data are not those that the run began "
                "with; rerun=true starts from the beginning"
            )

    def _validate_at_end(self) -> None:
        """Validate and save a run that `trainer.steps` or `trainer.minutes` ended between two validations."""
        with failing(self.options):
            self.trainer.validate(self.project.module, datamodule=self.project.data, verbose=False)
        if self.curve.rows and self.curve.best() is self.curve.rows[-1]:
            self.trainer.save_checkpoint(self.session.place.best)

    def _keepers(self) -> list[pl.Callback]:
        place, patience = self.session.place, self.session.config.trainer.patience
        found: list[pl.Callback] = [Described(self.session.config), KeepBest(place, self.curve)]
        if patience is not None:
            found.append(Patience(self.curve, patience))
        return found

    def _drivers(self) -> list[pl.Callback]:
        config, metric = self.session.config, self.curve.metric
        often: list[Any] = [Validations(config.trainer.validations)] if config.trainer.validations > 1 else []
        often.append(Scheduled(config))
        drivers = [*often, Noise(config.seed), Heartbeat(self.session.place), Pending(), self.resumption]
        return [*drivers, Bar(Console(), {metric: metric})] if config.trainer.progress else drivers
