"""Draws the charts of many findings, on all cores: matplotlib takes most of a report's time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from joblib import Parallel, cpu_count, delayed
from joblib.externals.loky import get_reusable_executor

from normlab.charts.charts import charts_of
from normlab.charts.figure import Chart, drawing
from normlab.findings.finding import Finding
from normlab.results.sources import StudyResult

WORTH_A_PROCESS = 8  # findings; fewer are drawn before another process has imported matplotlib

Drawable = tuple[Finding, Sequence[StudyResult]]


def draw_all(
    findings: Sequence[Drawable],
    committed: Sequence[Mapping[str, Any]],
    folder: Path | None,
    tell: Callable[[str, int, int], None],
) -> list[list[Chart]]:
    """The rendered charts of each finding, in the same order.

    Args:
        findings: each with its results, as `charts_of` takes them.
        committed: tuning rows of the reference.
        folder: for figures of papers; None writes none.
        tell: called before each finding with what is drawn, how many are done, and their number.
    """
    processes = min(cpu_count(), 1 + len(findings) // WORTH_A_PROCESS)
    calls = (delayed(draw)(finding, results, committed, folder) for finding, results in findings)
    made = []
    drawn = iter(Parallel(n_jobs=processes, return_as="generator")(calls))
    try:
        for number, (finding, _) in enumerate(findings):
            tell(f"drawing {finding.name}", number, len(findings))
            made.append(next(drawn))
    finally:
        if processes > 1:  # joblib would keep them for five minutes
            get_reusable_executor().shutdown(wait=True)
    return made


def draw(
    finding: Finding, results: Sequence[StudyResult], committed: Sequence[Mapping[str, Any]], folder: Path | None
) -> list[Chart]:
    """The rendered charts of one finding; see `draw_all`."""
    with drawing():
        charts = charts_of(finding, results, committed)
        for chart in charts:
            chart.render(folder)
    return charts
