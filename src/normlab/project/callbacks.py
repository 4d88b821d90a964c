"""Callbacks and the logger that stand around a project's training."""

from __future__ import annotations

import json
import math
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.loggers.logger import DummyExperiment
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from normlab.config.placement import check_schedules
from normlab.config.schema import RunConfig
from normlab.project.processes import gathered
from normlab.session.record import RunRecord
from normlab.session.validation_curve import Curve


class LoggedCurve(Curve):
    """All that a project has logged by the end of each validation, under its own names.

    Weights that are no longer finite end the run, which is an outcome (`diverged`), not an error.

    What only some of several processes log counts in all of them, so that all choose the same best validation.
    """

    def __init__(self, metric: str, direction: str, clock: Clock) -> None:
        super().__init__(metric, direction, metric)
        self.clock, self.diverged = clock, False

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Keep the row, if the metric is in it."""
        finite = all(bool(p.isfinite().all()) for p in module.parameters())
        own = {name: float(value) for name, value in trainer.callback_metrics.items() if value.numel() == 1}
        everyone = gathered((finite, own))
        if not all(finite for finite, _ in everyone):
            self.diverged = trainer.should_stop = True
            return
        values: dict[str, float] = {}
        for _, logged in reversed(everyone):
            values |= logged
        if self.metric in values and self.last_step != trainer.global_step:
            self.rows.append({**values, "step": trainer.global_step, "seconds": self.clock.seconds})


class Clock(pl.Callback):
    """Training time without validation, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since: float | None = None

    def on_train_start(self, *_: Any) -> None:
        """Start."""
        self._since = time.perf_counter()

    def on_validation_start(self, *_: Any) -> None:
        """Stop."""
        if self._since is not None:
            self.seconds += time.perf_counter() - self._since
            self._since = None

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Start again, if training continues."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._since = time.perf_counter()

    def on_train_end(self, *_: Any) -> None:
        """Stop."""
        self.on_validation_start()

    def state_dict(self) -> dict[str, Any]:
        """The time so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return {"seconds": self.seconds + running}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue."""
        self.seconds = float(state["seconds"])


class Patience(pl.Callback):
    """Ends a run after that many validations without a better one, in all processes alike."""

    def __init__(self, curve: Curve, patience: int) -> None:
        self.curve, self.patience = curve, patience

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Count those since the best one."""
        rows, best = self.curve.rows, self.curve.best()
        last = next((place for place, row in enumerate(rows) if row is best), -1)
        if trainer.state.fn == TrainerFn.FITTING and len(rows) - 1 - last >= self.patience:
            trainer.should_stop = True


class Described(pl.Callback):
    """Makes checkpoints say which run they are of, and readable without running code.

    Hyperparameters that are objects are left out, because reading them would run the code of their classes.
    """

    def __init__(self, config: RunConfig) -> None:
        self.record = {"config": config.model_dump(mode="json"), "sizes": None}

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add the record."""
        checkpoint["normlab"] = self.record
        for name in ("hyper_parameters", "datamodule_hyper_parameters"):
            if name in checkpoint:
                checkpoint[name] = {key: value for key, value in checkpoint[name].items() if _is_plain(value)}


class Scheduled(pl.Callback):
    """Refuses a run that ends before its norm's schedule; only Lightning knows how many batches the project has."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Before the first batch."""
        del module
        passes = trainer.num_training_batches * (trainer.max_epochs or 1)
        if trainer.max_steps > 0:
            passes = min(passes, trainer.max_steps * trainer.accumulate_grad_batches)
        if 0 < passes < math.inf:  # max_epochs may be -1
            check_schedules(self.config, int(passes))


class Pending(pl.Callback):
    """Keeps, in a resume point, gradients that a project with manual optimisation has accumulated."""

    def __init__(self) -> None:
        self.loaded: dict[str, Tensor] = {}

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save them."""
        if not module.automatic_optimization:
            named = module.named_parameters()
            checkpoint["gradients"] = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}

    def on_load_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read them."""
        self.loaded = checkpoint.get("gradients", {})

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put them back."""
        for name, parameter in module.named_parameters():
            if name in self.loaded:
                parameter.grad = self.loaded[name].to(parameter.device)
        self.loaded = {}


class ProjectLogger(Logger):
    """What a project sees as its logger: the run's record of numbers; pictures go to TensorBoard, if that is chosen.

    Args:
        record: None drops everything.
        mirrors: of the run.
    """

    def __init__(self, folder: Path, record: RunRecord | None, mirrors: list[Logger]) -> None:
        super().__init__()
        self.folder, self.record = folder, record
        boards = (mirror.experiment for mirror in mirrors if isinstance(mirror, TensorBoardLogger))
        self.experiment = next(boards, DummyExperiment())

    @property
    def name(self) -> str:
        """Names the project's own files in the run's folder."""
        return "project"

    @property
    def version(self) -> str:
        """A run has one."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self.folder)

    @property
    def log_dir(self) -> str:
        """Where the project may write files."""
        return str(self.folder / self.name)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Record one row."""
        if self.record is not None:
            self.record.append(metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the config has its own file."""

    def __getattr__(self, name: str) -> Any:
        """Methods of other loggers, such as those that log images, do nothing."""
        if not name.startswith("log_") and name != "watch":
            raise AttributeError(f"normlab's logger has no {name}")
        return lambda *_args, **_named: None


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
