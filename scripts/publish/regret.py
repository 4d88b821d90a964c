"""Write docs/verdicts/regret.md: what the advice costs on data that it has not seen, compared with fixed choices.

python scripts/publish/regret.py

Each data set of a model is left out in turn, and advised on from the model's other data sets.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from tabulate import tabulate

from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.estimates import rows_of, value_of
from normlab.findings.finding import Finding
from normlab.findings.formula import Cell
from normlab.findings.read import read_finding
from normlab.findings.verdict import Row
from normlab.folder.study_folder import StudyFolder

PAGE = Path(__file__).parents[2] / "docs/verdicts/regret.md"
FINDING = read_finding(CONF / "finding/norm_by_data.yaml")
TEXT = """# What the advice costs on other data

`python train.py finding=norm_by_data scale=full`, each norm at its own learning rate. Each data set in turn is left
out; the norm that is best on the model's other data sets is what we would have advised for it. *Regret* is how far a
norm ends behind the better one, in points of test accuracy. Written by `python scripts/publish/regret.py`.
"""


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

    @property
    def regrets(self) -> list[float]:
        """Of what was advised, then of each norm."""
        return [self.regret(norm) for norm in (self.advised, *self.scores)]


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


def page(cases: Sequence[HeldOut]) -> str:
    """The page, with a row for each case and their mean regret."""
    norms = list(cases[0].scores)
    header = ["model", "data left out", *norms, "advised", "regret", *(f"always {norm}" for norm in norms)]
    rows = [
        [case.model, case.data, *_points(case.scores.values()), case.advised, *_points(case.regrets)] for case in cases
    ]
    means = [fmean(values) for values in zip(*(case.regrets for case in cases), strict=True)]
    rows.append(["mean", *[""] * (len(norms) + 2), *_points(means)])
    return f"{TEXT}\n{tabulate(rows, header, tablefmt='pipe', floatfmt='.2f')}\n"


def _points(scores: Iterable[float]) -> list[float]:
    return [100 * score for score in scores]


if __name__ == "__main__":
    reported = [
        row
        for row in StudyFolder(REFERENCE / "full").read_runs()
        if (row["finding"], row["stage"]) == (FINDING.name, "report")
    ]
    if not reported:
        sys.exit(f"{REFERENCE}/full has no {FINDING.name} yet: python train.py finding={FINDING.name} scale=full")
    PAGE.write_text(page(held_out(FINDING, reported)), encoding="utf-8")
    print(PAGE)
