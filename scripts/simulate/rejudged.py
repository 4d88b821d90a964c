"""The committed quick study under the guarded interval.

Run by python scripts/simulate/rejudged.py (a second).
"""

from __future__ import annotations

import json
import math

from page import table, write

from normlab.config.shipped import REFERENCE
from normlab.findings.states import state_of
from normlab.folder.study_folder import StudyFolder
from normlab.stats import guarded
from normlab.stats.paired import t_interval
from normlab.stats.sequential import Design, seeds_needed

FAMILY = 0.05 / 6
VERDICTS = StudyFolder(REFERENCE / "quick").verdicts_file


def shown(low: float, high: float) -> str:
    return f"[{low:.4g}, {high:.4g}]"


def main() -> None:
    rows = []
    for verdict in json.loads(VERDICTS.read_text(encoding="utf-8"))["verdicts"]:
        if not verdict["primary"] or verdict["rule"] == "exact":
            continue
        rule = verdict["rule"]
        margin = math.log(verdict["margin"]) if rule == "ratio" else verdict["margin"]
        for estimate in verdict["estimates"]:
            d = estimate["values"]
            seeds = seeds_needed(d, margin, FAMILY, equivalence=rule == "equivalence")
            first = Design.capped((len(d), 12, 18, 24), 24, FAMILY).interval(d, len(d))
            before, alone = t_interval(d, FAMILY), guarded.interval(d, FAMILY)
            cells = [
                f"{shown(i.low, i.high)} {state_of(rule, margin, i.low, i.high)[0]}" for i in (before, alone, first)
            ]
            rows.append([verdict["finding"], estimate["name"], len(d), f"{margin:.4g}", *cells, seeds])
    head = [
        "finding",
        "contrast",
        "n",
        "margin",
        "t",
        "guarded, as the only look",
        "guarded, first look of four",
        "seeds it would take",
    ]
    write(
        "rejudged",
        f"""
`python scripts/simulate/rejudged.py`: the contrasts of the primaries of `results/reference/quick`;
ratios in natural logarithms.

{table(head, rows)}
""",
    )


if __name__ == "__main__":
    main()
