"""Train, validate, keep the best and the last checkpoint; use the test split only if requested."""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch

from normlab.config.measures.training import Training
from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.mirror.loggers import show_predictions, shows_predictions
from normlab.models.base import Model, facts_of
from normlab.probes.inside import Inside
from normlab.probes.mode_gap import mode_gap
from normlab.probes.precise_statistics import PreciseStatistics
from normlab.session.fit import Fit
from normlab.session.session import Session
from normlab.session.task import build_task
from normlab.session.validation_curve import ValidationCurve
from normlab.tasks.task import Task

GAP_BATCHES = 32  # at most, of the training split


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train one network, from the beginning or from the resume point of an interrupted run.

    Returns:
        A flat summary. `validation/…` are the metrics of the best checkpoint by the task's metric, with its step,
        examples and training seconds as `best_…`; `last/…` those of the last validation. If requested, `test/…` and
        `last_test/…` are those of the two checkpoints on the test split, read once for both. `area/…` is the mean of
        the validation curve over steps. With `measure.inside`, `inside/…` is the last measurement of `Inside`, and
        `gap/…` is the `mode_gap` of the last weights. A run that diverges has `diverged: true`, the best metrics before
        that, if any, and null areas. `resumed` lists the conditions that changed when the run was resumed, if any did.
    """
    session = Session(config, place)
    return session.finish(train(session))


def train(session: Session) -> dict[str, Any]:
    """Train, for `measure` or another measure that continues from there: the summary, with the loggers still open."""
    model = session.model()
    task = build_task(session.config, model, session.data)
    inside = _inside(session, model)
    fit = Fit(session, task, [PreciseStatistics(), *([inside] if inside else [])])
    fit.run()
    summary = {
        "diverged": task.diverged,
        "steps": fit.trainer.global_step,
        "examples": fit.log.examples,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_seconds": fit.log.seconds,
        "fit_seconds": fit.seconds,
        **validated(fit.curve, task),
        **facts_of(model),
    }
    if fit.resumption.changes:
        summary["resumed"] = "; ".join(fit.resumption.changes)
    if session.config.norm_name == "batch":
        summary["normalisation_batch_size"] = _nbs(session.config)
    if inside is not None:
        summary |= inside.found
        if not task.diverged:
            summary |= mode_gap(fit.trainer, task, _few(session.config, inside))
    if session.config.test:
        summary |= fit.test()
    _show(fit)
    return summary


def validated(curve: ValidationCurve, task: Task) -> dict[str, Any]:
    """The summary's entries about validations: the best, the last, and the areas under the curve."""
    best = curve.best() or {}
    found: dict[str, Any] = {name if "/" in name else f"best_{name}": value for name, value in best.items()}
    if curve.rows:
        last = curve.rows[-1].items()
        found |= {f"last/{name.partition('/')[2]}": value for name, value in last if "/" in name}
    for name in (task.metric, "loss"):
        found[f"area/{name}"] = None if task.diverged else curve.area(f"validation/{name}")
    return found


def _inside(session: Session, model: Model) -> Inside | None:
    """The probe of `measure.inside`, if requested; its batches are composed as in training, with another seed."""
    if not (isinstance(session.config.measure, Training) and session.config.measure.inside):
        return None
    seed = session.seed("inside")
    return Inside(model, session.batches("train", torch.device("cpu"), seed=seed), seed)


def _few(config: RunConfig, inside: Inside) -> Any:
    return islice(inside.batches, min(config.trainer.batches or GAP_BATCHES, GAP_BATCHES))


def _nbs(config: RunConfig) -> int:
    """Number of examples whose statistics batch norm pools in training: a rank's share, unless it synchronises."""
    world = 1 if config.norm.get("sync") else config.trainer.processes
    return int(config.norm.get("nbs") or config.task.batch_size // world)


def _show(fit: Fit) -> None:
    """Log tables of the best weights' predictions, if a mirror shows them."""
    mirrors = fit.session.loggers.mirrors
    if shows_predictions(mirrors) and fit.curve.best() is not None and fit.trainer.is_global_zero:
        fit.load_best()
        show_predictions(mirrors, fit.task.model, fit.session.data, fit.curve.confusion)
