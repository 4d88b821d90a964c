"""Measures that train, and the one that tests what was trained. Imports no torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from normlab.config.errors import InputError
from normlab.config.measures.base import MOST, Measure

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig
    from normlab.config.signature import Signature


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
        if self.inside and config.trainer.devices * config.trainer.nodes > 1:
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
                f"measure=lengths needs language modelling, but task={config.task.name} is classification: "
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
