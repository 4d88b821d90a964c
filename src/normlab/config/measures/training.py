"""Measures that train, and the one that tests what was trained. Imports no torch."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normlab.config.errors import InputError
from normlab.config.measures.base import MOST, Measure, Rows, Summary, number

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig
    from normlab.config.signature import Signature


def places(count: int, batches: int) -> set[int]:
    """The batches of an epoch, counted from 1, after which a run validates; halves are rounded up."""
    return {(2 * k * batches + count) // (2 * count) for k in range(1, count + 1)}


def least_steps(share: float, steps: int) -> int:
    """The fewest steps that are at least that share of all."""
    return math.ceil(round(share * steps, 6))


def pause_step(share: float, *, steps: int, epoch: int, count: int) -> int:
    """The step of the first validation with at least that share of the steps done; the last step at the latest.

    Args:
        epoch: batches of an epoch.
        count: validations of an epoch.
    """
    before, within = divmod(least_steps(share, steps), epoch)
    if within == 0 and before:
        return before * epoch  # every epoch ends with a validation
    return min(steps, before * epoch + min(place for place in places(count, epoch) if place >= within))


class Training(Measure):
    """Train, validate, keep the best checkpoint."""

    processes = "any"
    reads_test = True
    trains = True
    scores = True
    headline = ()
    summary: ClassVar[tuple[str, ...]] = (
        *("inside/*", "gap/*", "best_*", "steps", "examples", "train_seconds", "fit_seconds"),
    )

    name: Literal["training"]
    inside: bool = False  # look into the network at every validation, see `probes/inside.py`

    def check(self, config: RunConfig, model: Signature) -> None:
        """A network is looked into by one process, whose batch is the whole batch."""
        if self.inside and config.trainer.processes > 1:
            raise InputError("measure.inside=true works in one process only: use trainer=cpu or trainer=gpu")


class Evaluate(Measure):
    """Test a checkpoint."""

    processes = "any"
    reads_test = True
    reads_checkpoint = True
    trains = False
    scores = True
    headline = ()
    summary = ()

    name: Literal["evaluate"]


class Lengths(Measure):
    """Train a language model, then read longer windows than it was trained on."""

    processes = "one"
    reads_test = True
    trains = True
    scores = True
    headline = ()
    summary: ClassVar[tuple[str, ...]] = (
        *("validation/bits_per_character@*", "validation/late_bits_per_character@*", "drift", "late_drift", "drift@*"),
        *("test/bits_per_character@*", "test/late_bits_per_character@*", "late_drift@*"),
    )

    name: Literal["lengths"]
    lengths: Annotated[tuple[Annotated[int, Field(ge=2, le=MOST)], ...], Field(min_length=1)]  # windows, tokens
    tokens: Annotated[int, Field(gt=0, lt=2**63)] | None  # of each split that are read, from its beginning; None: all

    def check(self, config: RunConfig, model: Signature) -> None:
        """Only text has windows, and learned positions end where training did."""
        if config.task.goal != "language_modelling":
            raise InputError(
                f"measure=lengths needs language modelling, but task={config.task.name} is {config.task.goal}: "
                "use model=lstm or transformer with task=union"
            )
        if len(set(self.lengths)) < len(self.lengths):
            raise InputError(f"measure.lengths={json.dumps(list(self.lengths))}: a length occurs more than once")
        longest, known = max(self.lengths), config.task.max_length or 0
        if config.model.get("position_encoding") == "learned" and longest > known:
            raise InputError(
                f"measure.lengths has {longest} tokens, but the model learns only {known} positions (task.max_length): "
                "use model.position_encoding=rotary"
            )


class Project(Measure):
    """Train a Lightning project as it is, with its norms replaced."""

    processes = "any"
    reads_test = False
    trains = True
    scores = False
    headline = ("best",)
    summary: ClassVar[tuple[str, ...]] = ("*",)

    name: Literal["project"]

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """The metric under the project's own name for it."""
        value, step = summary.get("best"), summary.get("best_step")
        return [(str(config.model["metric"]), f"{number(value)}" + ("" if step is None else f" at step {step}"))]
