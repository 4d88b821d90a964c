"""Write docs/verdicts/regret.md: what the advice costs on data that it has not seen, compared with fixed choices.

python scripts/publish/regret.py
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

from normlab.advice.regret import HeldOut, held_out
from normlab.config.shipped import CONF, REFERENCE
from normlab.findings.read import read_finding
from normlab.folder.study_folder import StudyFolder

PAGE = Path(__file__).parents[2] / "docs/verdicts/regret.md"
FINDING = "norm_by_data"


def page() -> str:
    """The page, from the committed reference."""
    finding = read_finding(CONF / f"finding/{FINDING}.yaml")
    rows = [row for row in StudyFolder(REFERENCE / "full").read_runs() if row["finding"] == FINDING]
    cases = held_out(finding, [row for row in rows if row["stage"] == "report"])
    seeds = sorted({row["seed"] for row in rows if row["stage"] == "report"})
    lines = [f"| {case.model} | {case.data} | {_scores(case)} | {case.advised} | {_points(case)} |" for case in cases]
    fixed = ", ".join(f"always {norm}" for norm in finding.arms)
    means = [fmean(case.regret(case.advised) for case in cases)]
    means += [fmean(case.regret(norm) for case in cases) for norm in finding.arms]
    return "\n".join(
        [
            "# What the advice costs on other data",
            "",
            f"`python train.py finding={FINDING} scale=full`, {len(seeds)} seeds a cell, each norm at its own rate.",
            "Each data set in turn is left out; the norm that is best on the model's other data sets is what we would",
            "have advised for it. *Regret* is how far it ends behind the better norm, in points of test accuracy.",
            "Written by `python scripts/publish/regret.py`.",
            "",
            f"| model | data left out | {' | '.join(finding.arms)} | advised | regret | {fixed.replace(', ', ' | ')} |",
            f"|---|---|{'---|' * (3 + 2 * len(finding.arms) - 1)}",
            *lines,
            f"| **mean** | | {'| ' * len(finding.arms)}| {' | '.join(f'**{100 * mean:.2f}**' for mean in means)} |",
            "",
        ]
    )


def _scores(case: HeldOut) -> str:
    return " | ".join(f"{100 * score:.2f}" for score in case.scores.values())


def _points(case: HeldOut) -> str:
    every = [case.regret(case.advised), *(case.regret(norm) for norm in case.scores)]
    return " | ".join(f"{100 * value:.2f}" for value in every)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
