"""Measures of dependence between examples, positions, features and processes. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normlab.config.errors import InputError
from normlab.config.measures.base import MOST, Measure, Rows, Summary, number

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig
    from normlab.config.signature import Signature


class SampleCoupling(Measure):
    """Which examples and positions depend on each other."""

    processes = "one"
    reads_test = False
    trains = False
    scores = False
    headline = ("train/examples",)
    summary: ClassVar[tuple[str, ...]] = ("train/*", "eval/*", "as_declared")

    name: Literal["sample_coupling"]
    examples: Annotated[int, Field(ge=2, le=MOST)]
    positions: Annotated[int, Field(ge=2, le=MOST)]  # time steps, of a language model's window

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """The model's coupling and the norm's axes in both modes, and whether the norm declares it."""
        rows = []
        for mode, title in (("train", "training"), ("eval", "eval mode")):
            named = [(name, f"{mode}/{name}") for name in ("examples", "positions", "future")]
            values = [f"{name} {number(summary[key], '.3g')}" for name, key in named if key in summary]
            rows.append((f"coupling, {title}", f"{' · '.join(values)} (relative to the example's own; 0: no coupling)"))
            axes: dict[str, list[str]] = {}
            for key, value in summary.items():
                if key.startswith(f"{mode}/site/"):
                    kind, axis = key.split("/")[2:]
                    axes.setdefault(kind, []).extend([axis] if value else [])
            sites = [f"{kind} {','.join(found) or 'none'}" for kind, found in axes.items()]
            rows.append((f"axes, {title}", " · ".join(sites)))
        declared = "as the norm declares" if summary["as_declared"] else "NOT what the norm declares"
        return [*rows, ("", f"the norm's coupling is {declared}")]


class Axes(Measure):
    """Over which axes a norm computes its statistics."""

    processes = "one"
    reads_test = False
    trains = False
    scores = False
    headline = ("moved_by_examples",)
    summary: ClassVar[tuple[str, ...]] = (
        *("over_*_error", "moved_by_*", "train_eval_difference", "as_declared", "*/site/*", "site/*"),
    )

    name: Literal["axes"]
    examples: Annotated[int, Field(ge=4, le=MOST)]


class Leakage(Measure):
    """Whether a network can learn from information in other examples of its batch."""

    processes = "one"
    reads_test = False
    trains = False
    scores = False
    headline = ("leak/train_mode_accuracy",)
    summary: ClassVar[tuple[str, ...]] = ("leak/*",)

    name: Literal["leakage"]
    steps: Annotated[int, Field(gt=0, le=MOST)]  # optimiser steps

    def check(self, config: RunConfig, model: Signature) -> None:
        """Examples come in pairs, each with one class."""
        if config.task.goal != "classification":
            raise InputError(f"measure=leakage needs one class per example, but task={config.task.name} has none")
        nbs = config.norm.get("nbs")
        for name, value in (("task.batch_size", config.task.batch_size), ("norm.nbs", nbs)):
            if value is not None and value % 2:
                raise InputError(f"measure=leakage works on pairs, but {name}={value} is odd: use an even number")


class SyncEquivalence(Measure):
    """Whether two processes that synchronise batch norm compute the same as one process."""

    processes = "one"  # it starts the second process itself
    reads_test = False
    trains = False
    scores = False
    headline = ("gradient_difference",)
    summary: ClassVar[tuple[str, ...]] = ("*_difference", "*_difference_unsynced")

    name: Literal["sync_equivalence"]
    examples: Annotated[int, Field(ge=8, le=MOST)]  # examples of both processes together

    def check(self, config: RunConfig, model: Signature) -> None:
        """Only batch norm over the whole batch has anything to synchronise."""
        if config.norm_name != "batch":
            raise InputError(f"norm={config.norm_name} has no statistics to synchronise: use norm=batch")
        if config.norm.get("nbs") is not None:
            raise InputError("norm.nbs splits the batch that measure=sync_equivalence pools: leave out norm.nbs")
