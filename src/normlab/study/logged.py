"""Which metrics a run will log, determined before it runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from normlab.config.metrics import metrics_of
from normlab.config.schema import InputError, RunConfig
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell

ALWAYS = ("seconds", "peak_memory_mb", "parameters")


def logged(config: RunConfig) -> list[str]:
    """Patterns of the summary's columns."""
    names = [*ALWAYS, *config.measure.summary]
    if config.measure.scores:
        splits = ["validation", "last", "area", *(["test", "last_test"] if config.test else [])]
        names += [f"{split}/{metric}" for split in splits for metric in metrics_of(config.task.goal, split)]
    return names


def check_metrics(finding: Finding, configs: Mapping[Cell, RunConfig]) -> None:
    """Check that every run will log the metrics that the finding uses.

    Raises:
        InputError: a metric is not logged; the message names its key.
    """
    asked = {"metric": finding.metric, **{f"also.{label}": name for label, name in finding.also.items()}}
    if finding.rule == "exact":
        del asked["metric"]
    for key, metric in asked.items():
        for cell, config in configs.items():
            _check(f"finding.{key}", metric, cell, config)
    if finding.metric == "test/loss" and "examples" in finding.generalises_over:
        wrong = next((cell for cell, config in configs.items() if config.task.goal in ("classification", "auto")), None)
        if wrong is not None:
            raise InputError(
                f"finding.generalises_over names examples, of which {wrong} keeps no loss: a classification keeps "
                "which are right, so take metric=test/accuracy"
            )
    for name, bounds in finding.bounds.items():
        cell = next(cell for cell in configs if str(cell) == name)
        for metric in bounds:
            _check(f"finding.bounds.{name}", metric, cell, configs[cell])


def check_tuning(metric: str, configs: Mapping[Cell, RunConfig]) -> None:
    """Check that every tuning run will log the metric by which its learning rate is chosen.

    Raises:
        InputError: one does not.
    """
    for cell, config in configs.items():
        _check("finding.tune.by", metric, cell, config)


def _check(key: str, metric: str, cell: Cell, config: RunConfig) -> None:
    names = logged(config)
    if any(fnmatchcase(metric, pattern) for pattern in names):
        return
    raise InputError(
        f"{key}: {metric} is not logged for {cell}; measure={config.measure.name} gives {', '.join(names)}"
    )
