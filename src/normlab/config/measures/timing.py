"""Measures of times. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from normlab.config.components import check_single, check_sites, checked_options, norms_at
from normlab.config.errors import InputError
from normlab.config.measures.base import CROSS_ENTROPY, MOST, Measure, Rows, Summary
from normlab.config.names import component_name
from normlab.config.signature import read

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig
    from normlab.config.signature import Signature


class Timing(Measure):
    """Times of the run's norm and of a second one: many short blocks of each, alternating.

    timed   what is timed, as printed at the end of a run
    column  of the summary, without the unit
    trained  is it timed in training mode, where batch norm needs more than one example?
    """

    processes = "one"
    reads_test = False
    trains = False
    scores = False
    exclusive = True
    timed: ClassVar[str]
    column: ClassVar[str]
    trained: ClassVar[bool] = True

    batch_size: Annotated[int, Field(gt=0, le=MOST)]  # examples
    steps: Annotated[int, Field(gt=0, le=MOST)]  # steps of a block
    blocks: Annotated[int, Field(ge=3, le=MOST)]  # blocks of each norm
    against: dict[str, Any] | None = None  # the second norm, a Hydra partial like RunConfig.norm; None: there is none

    def check(self, config: RunConfig, model: Signature) -> None:
        """Can both norms be timed in the model with this config?"""
        if config.trainer.precision == "16-mixed":
            raise InputError(
                f"measure={self.name} does not scale losses, as 16-mixed requires: use bf16-mixed or 32-true"
            )
        batch = f"measure.batch_size={self.batch_size}"
        if self.trained:
            check_single(config, model, batch, self.batch_size)
        if self.against is None:
            return
        signature = checked_options("measure.against", self.against)
        second = config.model_copy(update={"norm": self.against})
        try:
            check_sites(second, signature, model)
            if self.trained:
                check_single(second, model, batch, self.batch_size)
        except InputError as error:
            raise InputError(f"norm@measure.against: {error}") from None

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """The times of both norms, and their ratio."""
        values = [f"{config.norm_name} {summary[f'{self.column}_ms']:.3f} ms{_kept(summary, '')}"]
        if "against" in summary:
            ms = summary[f"{self.column}_ms_against"]
            values.append(f"{summary['against']} {ms:.3f} ms{_kept(summary, '_against')}")
            values.append(f"ratio {summary[f'{self.column}_ratio']:.3f}")
        return [(self.timed, " · ".join(values))]


class StepTime(Timing):
    """How long a training step takes."""

    timed = "training step"
    column = "step"
    goals = CROSS_ENTROPY

    headline = ("step_ratio", "step_ms")
    summary: ClassVar[tuple[str, ...]] = (*("step_*", "forward_ms*", "backward_ms*", "optimiser_ms*", "saved_bytes*"),)

    name: Literal["step_time"]

    def check(self, config: RunConfig, model: Signature) -> None:
        """The timed loss must be all that a step reduces."""
        for node in (config.norm, self.against or config.norm, *norms_at(config.model).values()):
            if read(node["_target_"]).constants.get("in_loss"):
                raise InputError(
                    f"measure=step_time leaves out what norm={component_name(node)} adds to the loss: "
                    "measure=site_time times the norm alone"
                )
        super().check(config, model)


class InferenceTime(Timing):
    """How long a forward pass in eval mode takes."""

    timed = "forward pass"
    column = "inference"
    trained = False
    headline = ("inference_ratio", "inference_ms")
    summary: ClassVar[tuple[str, ...]] = ("inference_*", "fold_error*", "folded*")

    name: Literal["inference_time"]
    fold: bool  # a norm that can be folded exactly into the layers before it is


class SiteTime(Timing):
    """How long a model's norms alone take, and which share of batch norm's time running statistics take."""

    timed = "norms, forward and backward"
    column = "site"
    headline = ("update_share", "site_ratio", "site_ms")
    summary: ClassVar[tuple[str, ...]] = ("site_*", "sites", "torch_ms*", "update_share")

    name: Literal["site_time"]

    def check(self, config: RunConfig, model: Signature) -> None:
        """Only norms outside a recurrence can be timed alone."""
        if model.constants["recurrent"]:
            raise InputError(
                f"measure=site_time times norms alone, but in model={config.model_name} they are inside the loop over "
                "time: use another model"
            )
        if config.trainer.compile:
            raise InputError(
                "measure=site_time times norms alone, without compiling them: leave out trainer.compile=true"
            )
        super().check(config, model)

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """The times of both norms, and the cost of running statistics."""
        rows = super().rows(config, summary)
        if "update_share" in summary:
            share = 100 * summary["update_share"]
            rows.append(("running statistics", f"{share:.1f} % of the time of PyTorch's batch norm"))
        return rows


def _kept(summary: Summary, suffix: str) -> str:
    """Further facts about a time, if there are any."""
    if f"saved_bytes{suffix}" in summary:
        return f" and {summary[f'saved_bytes{suffix}'] / 1e6:.3f} MB for the backward pass"
    return " (folded)" if summary.get(f"folded{suffix}") else ""
