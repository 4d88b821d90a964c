"""What every measure declares. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from normlab.config.strict import Strict

if TYPE_CHECKING:
    from normlab.config.schema import RunConfig
    from normlab.config.signature import Signature

MOST = 1_000_000  # examples, steps or blocks; a larger number is a typing error, and would run forever

Summary = dict[str, Any]
Rows = list[tuple[str, str]]


class Measure(Strict):
    """What a run measures: its options as fields, and what the rest of normlab must know about it as class variables.

    name              of measures/NAME.py, which measures it, and of conf/measure/NAME.yaml
    processes         any: a run may have several; one: several are refused
    reads_test        may it read the test split, if test=true?
    reads_checkpoint  it takes norm, model, task and seed from ckpt=..., instead of from the command line
    trains            does it take as long as the trainer's options say?
    scores            does its summary have the task's metrics on its splits?
    goals             the tasks that it understands; empty: any
    exclusive         it measures times: it runs alone, in its own process, on one thread
    summary           patterns of its summary's columns, other than the task's metrics
    headline          its main result: the first of these columns that a summary has; empty: the task's metric
    """

    name: str

    processes: ClassVar[Literal["any", "one"]]
    reads_test: ClassVar[bool]
    trains: ClassVar[bool]
    scores: ClassVar[bool]
    summary: ClassVar[tuple[str, ...]]
    headline: ClassVar[tuple[str, ...]]
    reads_checkpoint: ClassVar[bool] = False
    goals: ClassVar[tuple[str, ...]] = ()
    exclusive: ClassVar[bool] = False

    def check(self, config: RunConfig, model: Signature) -> None:
        """Does the rest of the config fit this measure?

        Raises:
            InputError: it does not.
        """

    def rows(self, config: RunConfig, summary: Summary) -> Rows:
        """What is printed of the summary at the end of a run, besides the task's metrics: labels and texts."""
        found = self.main_value(summary)
        return [(found[0].replace("_", " "), number(found[1]))] if found else []

    def main_value(self, summary: Summary) -> tuple[str, float] | None:
        """Name and value of the headline; None if the summary has none."""
        named = ((name, summary.get(name)) for name in self.headline)
        return next(((name, float(value)) for name, value in named if isinstance(value, int | float)), None)


CROSS_ENTROPY = ("classification", "language_modelling")  # goals of measures whose own loss it is


def number(value: float | None, form: str = ".4f") -> str:
    """A value of a summary as text; None means that it was not finite."""
    return "not finite" if value is None else format(value, form)
