"""Train a Lightning project as it is, with its norms replaced."""

from __future__ import annotations

from typing import Any

from normlab.config.schema import RunConfig
from normlab.folder.place import Place
from normlab.networks.replaced import facts_of_swap
from normlab.project.fit import ProjectFit
from normlab.project.options import project_of
from normlab.project.processes import together
from normlab.project.trial import trial
from normlab.session.session import Session


def measure(config: RunConfig, place: Place) -> dict[str, Any]:
    """Train one project, after a short trial of it, from the beginning or from the resume point of an interrupted run.

    Returns:
        A flat summary. `best` is the metric of the best validation; what else was logged by then stands under the
        project's own names, with its step and training seconds as `best_…`. `last/…` and `area/…` are the metric of
        the last validation and its mean over steps. `batches` are hashes of the first training batches, and
        `repeatable` says whether they were the same when drawn twice with the seed. `norms_replaced` counts the norms.
        `averaged_over` is the number of processes, if they logged different values of the metric; theirs is the mean.
    """
    with together(config.trainer.processes):
        return _measured(config, place)


def _measured(config: RunConfig, place: Place) -> dict[str, Any]:
    session, options = Session(config, place), project_of(config)
    tried = trial(config, options)
    fit = ProjectFit(session, options, tried)
    fit.run()
    metric, best = fit.curve.metric, fit.curve.best() or {}
    summary = {
        **{name: value for name, value in best.items() if name not in ("step", "seconds", "epoch")},
        "diverged": fit.curve.diverged,
        "best": best.get(metric),
        "best_step": best.get("step"),
        "best_seconds": best.get("seconds"),
        f"last/{metric}": fit.curve.rows[-1][metric] if fit.curve.rows else None,
        f"area/{metric}": None if fit.curve.diverged else fit.curve.area(metric),
        "steps": fit.trainer.global_step,
        "parameters": sum(p.numel() for p in fit.project.module.parameters()),
        "train_seconds": fit.clock.seconds,
        "fit_seconds": fit.seconds,
        "batches": "-".join(tried.batches),
        "repeatable": fit.repeatable,
        **facts_of_swap(fit.report),
    }
    if fit.agreement.differs:
        summary["averaged_over"] = config.trainer.processes
    if fit.resumption.changes:
        summary["resumed"] = "; ".join(fit.resumption.changes)
    return session.finish(summary)
