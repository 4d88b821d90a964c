"""What the advice costs on data that it has not seen: each data set in turn is advised on from the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from normlab.findings.estimates import rows_of, value_of
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.verdict import Row


@dataclass(frozen=True)
class HeldOut:
    """One data set of a model, and what choosing its norm from the model's other data sets loses.

    scores   norm → mean score over the seeds; a run that diverged counts as the finding says
    advised  the norm whose mean, relative to the other norms', is best on the other data sets
    """

    model: str
    data: str
    scores: dict[str, float]
    advised: str

    def regret(self, norm: str) -> float:
        """How far the norm ends behind the best one here, in the metric's unit; 0 if it is the best."""
        return max(self.scores.values()) - self.scores[norm]


def held_out(finding: Finding, rows: Sequence[Row]) -> list[HeldOut]:
    """Each data set of each model that has at least two.

    Args:
        finding: its arms are norms, and its conditions name a model and a data set; a higher score is better.
        rows: of its reporting runs.
    """
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for condition, options in finding.conditions.items():
        chosen = dict(option.split("=", 1) for option in options)
        cells = {arm: rows_of(rows, Cell(arm, condition)) for arm in finding.arms}
        if all(cells.values()):
            means = {arm: fmean(value_of(finding, row, finding.metric) for row in cells[arm]) for arm in cells}
            found[chosen["model"]][chosen["task"]] = means
    return [
        HeldOut(model, data, scores, _best([other for name, other in sets.items() if name != data]))
        for model, sets in found.items()
        if len(sets) > 1
        for data, scores in sets.items()
    ]


def _best(data_sets: Sequence[dict[str, float]]) -> str:
    """The norm with the greatest sum of scores; every norm has one in each data set."""
    return max(data_sets[0], key=lambda norm: sum(scores[norm] for scores in data_sets))
